// Threads. Work is cut into chunks by the caller, from shapes alone; threads only choose who computes which
// chunk, so results have the same bits for any number of threads.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>

namespace opgrad {

// A non-owning reference to a callable; lives as long as the call it is passed to.
template <class Signature>
class FunctionRef;
template <class R, class... A>
class FunctionRef<R(A...)> {
 public:
  template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, FunctionRef>) FunctionRef(F&& f)
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(f)))),
        call_([](void* o, A... a) -> R { return (*static_cast<std::remove_reference_t<F>*>(o))(a...); }) {}
  R operator()(A... a) const { return call_(object_, a...); }

 private:
  void* object_;
  R (*call_)(void*, A...);
};

// Runs body(0) ... body(chunks-1), each once, on up to threads() threads, and returns when all are done.
// If bodies throw, the exception of the lowest chunk that threw is rethrown here once no chunk runs any more.
// Called from inside a body, or while another thread's call holds the pool, it runs the chunks in the calling
// thread. Safe from several threads.
void parallel_for(std::int64_t chunks, FunctionRef<void(std::int64_t chunk)> body);

// Whether this thread would run all chunks of a call itself, because it runs a body now or is the only one:
// they may then be cut as suits one thread, where results do not depend on it.
bool runs_alone();

// The number of threads used: set_threads, else OPGRAD_NUM_THREADS, else the processors this process may use
// (affinity mask and cgroup quota). UserError when n < 1 or n > 1024, and for set_threads inside a body;
// called elsewhere, it waits for the running call to end. Threads are started by the first call that has work
// for them. A forked child may call everything here again; to fork inside a body is not supported.
int threads();
void set_threads(int n);

// The processor quota of this process's control group (cgroup version 1 or 2, the groups above included),
// rounded down but at least 1; 0 where there is none. `root` goes before the names of the system's files.
int cgroup_quota(const std::string& root = "");

// Cuts n items into chunks of `grain` (the last may be shorter) and calls body(begin, end) for each.
inline void parallel_ranges(std::int64_t n, std::int64_t grain,
                            FunctionRef<void(std::int64_t begin, std::int64_t end)> body) {
  const std::int64_t chunks = (n + grain - 1) / grain;
  if (chunks == 1) return body(0, n);
  parallel_for(chunks,
               [&](std::int64_t c) { body(c * grain, c * grain + grain < n ? c * grain + grain : n); });
}

}  // namespace opgrad
