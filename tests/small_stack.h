// Runs something on a thread with a stack of its own size, to show that nothing recurses over a graph.
#pragma once
#include <pthread.h>

#include <cstddef>
#include <stdexcept>

namespace opgrad::test {

inline void on_stack(std::size_t bytes, void* (*body)(void*)) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, bytes);
  pthread_t thread{};
  const int failed = pthread_create(&thread, &attributes, body, nullptr);
  pthread_attr_destroy(&attributes);
  if (failed) throw std::runtime_error("no thread could be started");
  pthread_join(thread, nullptr);
}

}  // namespace opgrad::test
