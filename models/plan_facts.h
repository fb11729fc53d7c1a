// What reports say of a plan's steps and values: names, arithmetic, bytes, source lines.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "../graph/plan.h"

namespace opgrad {

// " [winograd 2x2]" where the record says which of several algorithms its kernel takes (Op::algorithm), else
// "".
// `pieces`: a group runs on those that it finishes.
std::string algorithm_text(const Plan& plan, const PlanCall& call, bool pieces);

// All calls of a step, in the order in which each element meets them.
std::vector<std::uint32_t> calls_of(const Plan& plan, const PlanStep& step);

// "conv2d [direct] + add, relu" for a kernel and the group on its pieces, "multiply, add x2" for a tile
// group, the parts of a row group with "; " between.
std::string name_of(const Plan& plan, const PlanStep& step);

double flops_of(const Plan& plan, const PlanStep& step);
// Bytes that the step reads from memory and writes to it, were its caches boundless: each value once, what it
// has written itself not read again; nothing for tiles, blocks of rows and repeated elements.
double bytes_of(const Plan& plan, const PlanStep& step);

// Where the user wrote it: "net.cpp:42 (net/conv2d)".
std::string origin_text(const Plan& plan, std::uint32_t item);
std::string origin_text(const Plan& plan, const PlanStep& step);

// "12.3 MB", "1.2 kB", "40 B", in powers of 1000; "49.8 MFLOP", "" for none.
std::string bytes_text(double bytes);
std::string flops_text(double flops);
// "1,668,490"
std::string with_commas(std::int64_t n);

}  // namespace opgrad
