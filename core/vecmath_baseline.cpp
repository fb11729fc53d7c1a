// Vector maths for packs of 16 bytes (SSE2), by SLEEF.
#include <immintrin.h>
#include <sleef.h>

#include "vecmath.h"

namespace opgrad::kernel::detail {
namespace {

template <Fn f, class T>
constexpr auto sleef = nullptr;
template <>
constexpr auto sleef<Fn::exp, float> = &Sleef_cinz_expf4_u10sse2;
template <>
constexpr auto sleef<Fn::exp, double> = &Sleef_cinz_expd2_u10sse2;
template <>
constexpr auto sleef<Fn::expm1, float> = &Sleef_cinz_expm1f4_u10sse2;
template <>
constexpr auto sleef<Fn::expm1, double> = &Sleef_cinz_expm1d2_u10sse2;
template <>
constexpr auto sleef<Fn::log, float> = &Sleef_cinz_logf4_u10sse2;
template <>
constexpr auto sleef<Fn::log, double> = &Sleef_cinz_logd2_u10sse2;
template <>
constexpr auto sleef<Fn::log1p, float> = &Sleef_cinz_log1pf4_u10sse2;
template <>
constexpr auto sleef<Fn::log1p, double> = &Sleef_cinz_log1pd2_u10sse2;
template <>
constexpr auto sleef<Fn::sin, float> = &Sleef_cinz_sinf4_u10sse2;
template <>
constexpr auto sleef<Fn::sin, double> = &Sleef_cinz_sind2_u10sse2;
template <>
constexpr auto sleef<Fn::cos, float> = &Sleef_cinz_cosf4_u10sse2;
template <>
constexpr auto sleef<Fn::cos, double> = &Sleef_cinz_cosd2_u10sse2;
template <>
constexpr auto sleef<Fn::tanh, double> = &Sleef_cinz_tanhd2_u10sse2;
template <>
constexpr auto sleef<Fn::erf, float> = &Sleef_cinz_erff4_u10sse2;
template <>
constexpr auto sleef<Fn::erf, double> = &Sleef_cinz_erfd2_u10sse2;
template <class T>
constexpr auto sleef_pow = nullptr;
template <>
constexpr auto sleef_pow<float> = &Sleef_cinz_powf4_u10sse2;
template <>
constexpr auto sleef_pow<double> = &Sleef_cinz_powd2_u10sse2;

template <Fn f>
void run(const float* x, float* y) {
  const __m128 a = _mm_load_ps(x);
  if constexpr (f == Fn::sqrt)
    _mm_store_ps(y, _mm_sqrt_ps(a));
  else
    _mm_store_ps(y, sleef<f, float>(a));
}
template <Fn f>
void run(const double* x, double* y) {
  const __m128d a = _mm_load_pd(x);
  if constexpr (f == Fn::sqrt)
    _mm_store_pd(y, _mm_sqrt_pd(a));
  else
    _mm_store_pd(y, sleef<f, double>(a));
}
void run_pow(const float* x, const float* y, float* z) {
  _mm_store_ps(z, sleef_pow<float>(_mm_load_ps(x), _mm_load_ps(y)));
}
void run_pow(const double* x, const double* y, double* z) {
  _mm_store_pd(z, sleef_pow<double>(_mm_load_pd(x), _mm_load_pd(y)));
}

}  // namespace

template <Fn f, class T, int N>
void call(const T* x, T* y) {
  run<f>(x, y);
}
template <class T, int N>
void call_pow(const T* x, const T* y, T* z) {
  run_pow(x, y, z);
}

template void call<Fn::exp, float, 4>(const float*, float*);
template void call<Fn::exp, double, 2>(const double*, double*);
template void call<Fn::expm1, float, 4>(const float*, float*);
template void call<Fn::expm1, double, 2>(const double*, double*);
template void call<Fn::log, float, 4>(const float*, float*);
template void call<Fn::log, double, 2>(const double*, double*);
template void call<Fn::log1p, float, 4>(const float*, float*);
template void call<Fn::log1p, double, 2>(const double*, double*);
template void call<Fn::sin, float, 4>(const float*, float*);
template void call<Fn::sin, double, 2>(const double*, double*);
template void call<Fn::cos, float, 4>(const float*, float*);
template void call<Fn::cos, double, 2>(const double*, double*);
template void call<Fn::tanh, double, 2>(const double*, double*);
template void call<Fn::erf, float, 4>(const float*, float*);
template void call<Fn::erf, double, 2>(const double*, double*);
template void call<Fn::sqrt, float, 4>(const float*, float*);
template void call<Fn::sqrt, double, 2>(const double*, double*);
template void call_pow<float, 4>(const float*, const float*, float*);
template void call_pow<double, 2>(const double*, const double*, double*);

}  // namespace opgrad::kernel::detail
