// The one registry of operations of a process.
#pragma once
#include <span>
#include <string_view>

#include "ir.h"

namespace opgrad {

// Adds a record; harmless when the same object is there already. UserError when another record has the name,
// when the name is not lower case letters, digits, '_' and '.', or when shape rule, kernel or backward word
// is missing.
void register_op(const Op& op);

// All records in order of registration; the record of that name, null if none.
std::vector<const Op*> all_ops();
const Op* find_op(std::string_view name);

}  // namespace opgrad
