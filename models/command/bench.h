// opgrad bench: how long the standard works take, and where in a work the time goes.
#pragma once
#include <string>
#include <vector>

#include "../works.h"
#include "command.h"

namespace opgrad {

Command add_bench(CLI::App& app);

// What the files of this command share.
//
// The work of that name; UsageError, with the names near it, when there is none.
const Work& work_called(const std::string& name);
double milliseconds(const Step& step);
// Three steps, then more as long as they still make plans; a work that always does is measured as it is.
void warm_up(const Step& step);
// "opgrad 0.1.0, avx512, OpenBLAS SkylakeX, 2 threads, load 1.1"
std::string machine_text();

// bench_profile.cpp, bench_passes.cpp: at least so many repetitions, for at least so many seconds.
void profile(const Work& work, int repetitions, double seconds);
void compare_passes(const Work& work, int repetitions, double seconds);

}  // namespace opgrad
