// Vector maths for packs of 32 bytes (AVX2), by SLEEF.
#include <immintrin.h>

#include "vecmath.h"

// The `target` attributes below are enough for GCC. Clang takes the way vectors are passed from the whole
// file's options and would leave these in memory, where SLEEF does not look for them.
#if defined(__clang__) && !defined(__AVX2__)
#error "Clang must compile this file with -mavx2"
#endif

// Declared here since sleef.h shows these only where the options of the whole file name the instructions.
extern "C" {
__m256 Sleef_cinz_expf8_u10avx(__m256);
__m256d Sleef_cinz_expd4_u10avx(__m256d);
__m256 Sleef_cinz_expm1f8_u10avx(__m256);
__m256d Sleef_cinz_expm1d4_u10avx(__m256d);
__m256 Sleef_cinz_logf8_u10avx(__m256);
__m256d Sleef_cinz_logd4_u10avx(__m256d);
__m256 Sleef_cinz_log1pf8_u10avx(__m256);
__m256d Sleef_cinz_log1pd4_u10avx(__m256d);
__m256 Sleef_cinz_sinf8_u10avx(__m256);
__m256d Sleef_cinz_sind4_u10avx(__m256d);
__m256 Sleef_cinz_cosf8_u10avx(__m256);
__m256d Sleef_cinz_cosd4_u10avx(__m256d);
__m256d Sleef_cinz_tanhd4_u10avx(__m256d);
__m256 Sleef_cinz_erff8_u10avx(__m256);
__m256d Sleef_cinz_erfd4_u10avx(__m256d);
__m256 Sleef_cinz_powf8_u10avx(__m256, __m256);
__m256d Sleef_cinz_powd4_u10avx(__m256d, __m256d);
}

namespace opgrad::kernel::detail {
namespace {

template <Fn f, class T>
constexpr auto sleef = nullptr;
template <>
constexpr auto sleef<Fn::exp, float> = &Sleef_cinz_expf8_u10avx;
template <>
constexpr auto sleef<Fn::exp, double> = &Sleef_cinz_expd4_u10avx;
template <>
constexpr auto sleef<Fn::expm1, float> = &Sleef_cinz_expm1f8_u10avx;
template <>
constexpr auto sleef<Fn::expm1, double> = &Sleef_cinz_expm1d4_u10avx;
template <>
constexpr auto sleef<Fn::log, float> = &Sleef_cinz_logf8_u10avx;
template <>
constexpr auto sleef<Fn::log, double> = &Sleef_cinz_logd4_u10avx;
template <>
constexpr auto sleef<Fn::log1p, float> = &Sleef_cinz_log1pf8_u10avx;
template <>
constexpr auto sleef<Fn::log1p, double> = &Sleef_cinz_log1pd4_u10avx;
template <>
constexpr auto sleef<Fn::sin, float> = &Sleef_cinz_sinf8_u10avx;
template <>
constexpr auto sleef<Fn::sin, double> = &Sleef_cinz_sind4_u10avx;
template <>
constexpr auto sleef<Fn::cos, float> = &Sleef_cinz_cosf8_u10avx;
template <>
constexpr auto sleef<Fn::cos, double> = &Sleef_cinz_cosd4_u10avx;
template <>
constexpr auto sleef<Fn::tanh, double> = &Sleef_cinz_tanhd4_u10avx;
template <>
constexpr auto sleef<Fn::erf, float> = &Sleef_cinz_erff8_u10avx;
template <>
constexpr auto sleef<Fn::erf, double> = &Sleef_cinz_erfd4_u10avx;
template <class T>
constexpr auto sleef_pow = nullptr;
template <>
constexpr auto sleef_pow<float> = &Sleef_cinz_powf8_u10avx;
template <>
constexpr auto sleef_pow<double> = &Sleef_cinz_powd4_u10avx;

template <Fn f>
[[gnu::target("avx2")]] void run(const float* x, float* y) {
  const __m256 a = _mm256_load_ps(x);
  if constexpr (f == Fn::sqrt)
    _mm256_store_ps(y, _mm256_sqrt_ps(a));
  else
    _mm256_store_ps(y, sleef<f, float>(a));
}
template <Fn f>
[[gnu::target("avx2")]] void run(const double* x, double* y) {
  const __m256d a = _mm256_load_pd(x);
  if constexpr (f == Fn::sqrt)
    _mm256_store_pd(y, _mm256_sqrt_pd(a));
  else
    _mm256_store_pd(y, sleef<f, double>(a));
}
[[gnu::target("avx2")]] void run_pow(const float* x, const float* y, float* z) {
  _mm256_store_ps(z, sleef_pow<float>(_mm256_load_ps(x), _mm256_load_ps(y)));
}
[[gnu::target("avx2")]] void run_pow(const double* x, const double* y, double* z) {
  _mm256_store_pd(z, sleef_pow<double>(_mm256_load_pd(x), _mm256_load_pd(y)));
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

template void call<Fn::exp, float, 8>(const float*, float*);
template void call<Fn::exp, double, 4>(const double*, double*);
template void call<Fn::expm1, float, 8>(const float*, float*);
template void call<Fn::expm1, double, 4>(const double*, double*);
template void call<Fn::log, float, 8>(const float*, float*);
template void call<Fn::log, double, 4>(const double*, double*);
template void call<Fn::log1p, float, 8>(const float*, float*);
template void call<Fn::log1p, double, 4>(const double*, double*);
template void call<Fn::sin, float, 8>(const float*, float*);
template void call<Fn::sin, double, 4>(const double*, double*);
template void call<Fn::cos, float, 8>(const float*, float*);
template void call<Fn::cos, double, 4>(const double*, double*);
template void call<Fn::tanh, double, 4>(const double*, double*);
template void call<Fn::erf, float, 8>(const float*, float*);
template void call<Fn::erf, double, 4>(const double*, double*);
template void call<Fn::sqrt, float, 8>(const float*, float*);
template void call<Fn::sqrt, double, 4>(const double*, double*);
template void call_pow<float, 8>(const float*, const float*, float*);
template void call_pow<double, 4>(const double*, const double*, double*);

}  // namespace opgrad::kernel::detail
