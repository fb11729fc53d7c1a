// Vector maths for packs of 64 bytes (AVX-512), by SLEEF.
#include <immintrin.h>

#include "vecmath.h"

// The `target` attributes below are enough for GCC. Clang takes the way vectors are passed from the whole
// file's options and would leave these in memory, where SLEEF does not look for them.
#if defined(__clang__) && !defined(__AVX512F__)
#error "Clang must compile this file with -mavx512f"
#endif

// Declared here since sleef.h shows these only where the options of the whole file name the instructions.
extern "C" {
__m512 Sleef_cinz_expf16_u10avx512fnofma(__m512);
__m512d Sleef_cinz_expd8_u10avx512fnofma(__m512d);
__m512 Sleef_cinz_expm1f16_u10avx512fnofma(__m512);
__m512d Sleef_cinz_expm1d8_u10avx512fnofma(__m512d);
__m512 Sleef_cinz_logf16_u10avx512fnofma(__m512);
__m512d Sleef_cinz_logd8_u10avx512fnofma(__m512d);
__m512 Sleef_cinz_log1pf16_u10avx512fnofma(__m512);
__m512d Sleef_cinz_log1pd8_u10avx512fnofma(__m512d);
__m512 Sleef_cinz_sinf16_u10avx512fnofma(__m512);
__m512d Sleef_cinz_sind8_u10avx512fnofma(__m512d);
__m512 Sleef_cinz_cosf16_u10avx512fnofma(__m512);
__m512d Sleef_cinz_cosd8_u10avx512fnofma(__m512d);
__m512d Sleef_cinz_tanhd8_u10avx512fnofma(__m512d);
__m512 Sleef_cinz_erff16_u10avx512fnofma(__m512);
__m512d Sleef_cinz_erfd8_u10avx512fnofma(__m512d);
__m512 Sleef_cinz_powf16_u10avx512fnofma(__m512, __m512);
__m512d Sleef_cinz_powd8_u10avx512fnofma(__m512d, __m512d);
}

namespace opgrad::kernel::detail {
namespace {

template <Fn f, class T>
constexpr auto sleef = nullptr;
template <>
constexpr auto sleef<Fn::exp, float> = &Sleef_cinz_expf16_u10avx512fnofma;
template <>
constexpr auto sleef<Fn::exp, double> = &Sleef_cinz_expd8_u10avx512fnofma;
template <>
constexpr auto sleef<Fn::expm1, float> = &Sleef_cinz_expm1f16_u10avx512fnofma;
template <>
constexpr auto sleef<Fn::expm1, double> = &Sleef_cinz_expm1d8_u10avx512fnofma;
template <>
constexpr auto sleef<Fn::log, float> = &Sleef_cinz_logf16_u10avx512fnofma;
template <>
constexpr auto sleef<Fn::log, double> = &Sleef_cinz_logd8_u10avx512fnofma;
template <>
constexpr auto sleef<Fn::log1p, float> = &Sleef_cinz_log1pf16_u10avx512fnofma;
template <>
constexpr auto sleef<Fn::log1p, double> = &Sleef_cinz_log1pd8_u10avx512fnofma;
template <>
constexpr auto sleef<Fn::sin, float> = &Sleef_cinz_sinf16_u10avx512fnofma;
template <>
constexpr auto sleef<Fn::sin, double> = &Sleef_cinz_sind8_u10avx512fnofma;
template <>
constexpr auto sleef<Fn::cos, float> = &Sleef_cinz_cosf16_u10avx512fnofma;
template <>
constexpr auto sleef<Fn::cos, double> = &Sleef_cinz_cosd8_u10avx512fnofma;
template <>
constexpr auto sleef<Fn::tanh, double> = &Sleef_cinz_tanhd8_u10avx512fnofma;
template <>
constexpr auto sleef<Fn::erf, float> = &Sleef_cinz_erff16_u10avx512fnofma;
template <>
constexpr auto sleef<Fn::erf, double> = &Sleef_cinz_erfd8_u10avx512fnofma;
template <class T>
constexpr auto sleef_pow = nullptr;
template <>
constexpr auto sleef_pow<float> = &Sleef_cinz_powf16_u10avx512fnofma;
template <>
constexpr auto sleef_pow<double> = &Sleef_cinz_powd8_u10avx512fnofma;

template <Fn f>
[[gnu::target("avx512f")]] void run(const float* x, float* y) {
  const __m512 a = _mm512_load_ps(x);
  if constexpr (f == Fn::sqrt)
    _mm512_store_ps(y, _mm512_maskz_sqrt_ps(0xffff, a));
  else
    _mm512_store_ps(y, sleef<f, float>(a));
}
template <Fn f>
[[gnu::target("avx512f")]] void run(const double* x, double* y) {
  const __m512d a = _mm512_load_pd(x);
  if constexpr (f == Fn::sqrt)
    _mm512_store_pd(y, _mm512_maskz_sqrt_pd(0xff, a));
  else
    _mm512_store_pd(y, sleef<f, double>(a));
}
[[gnu::target("avx512f")]] void run_pow(const float* x, const float* y, float* z) {
  _mm512_store_ps(z, sleef_pow<float>(_mm512_load_ps(x), _mm512_load_ps(y)));
}
[[gnu::target("avx512f")]] void run_pow(const double* x, const double* y, double* z) {
  _mm512_store_pd(z, sleef_pow<double>(_mm512_load_pd(x), _mm512_load_pd(y)));
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

template void call<Fn::exp, float, 16>(const float*, float*);
template void call<Fn::exp, double, 8>(const double*, double*);
template void call<Fn::expm1, float, 16>(const float*, float*);
template void call<Fn::expm1, double, 8>(const double*, double*);
template void call<Fn::log, float, 16>(const float*, float*);
template void call<Fn::log, double, 8>(const double*, double*);
template void call<Fn::log1p, float, 16>(const float*, float*);
template void call<Fn::log1p, double, 8>(const double*, double*);
template void call<Fn::sin, float, 16>(const float*, float*);
template void call<Fn::sin, double, 8>(const double*, double*);
template void call<Fn::cos, float, 16>(const float*, float*);
template void call<Fn::cos, double, 8>(const double*, double*);
template void call<Fn::tanh, double, 8>(const double*, double*);
template void call<Fn::erf, float, 16>(const float*, float*);
template void call<Fn::erf, double, 8>(const double*, double*);
template void call<Fn::sqrt, float, 16>(const float*, float*);
template void call<Fn::sqrt, double, 8>(const double*, double*);
template void call_pow<float, 16>(const float*, const float*, float*);
template void call_pow<double, 8>(const double*, const double*, double*);

}  // namespace opgrad::kernel::detail
