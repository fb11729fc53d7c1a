// Matrix products against plain loops.
#include "../core/gemm.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "../core/error.h"
#include "../core/isa.h"
#include "../core/parallel.h"
#include "skipped.h"

using namespace opgrad;

namespace {

std::uint32_t state = 1;
template <class T>
T small_integer() {
  state = state * 1664525 + 1013904223;
  return static_cast<T>(static_cast<int>(state >> 24) % 9 - 4);
}

std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }

template <class T>
struct Case {
  std::int64_t m, n, k;
  bool ta, tb, accumulate;
  std::int64_t gap;  // how much the leading dimensions exceed the rows
  std::vector<T> a, b, before;
  std::int64_t lda = 0, ldb = 0, ldc = 0;

  Case(std::int64_t rows, std::int64_t cols, std::int64_t inner, bool transpose_a, bool transpose_b, bool add,
       std::int64_t extra)
      : m(rows), n(cols), k(inner), ta(transpose_a), tb(transpose_b), accumulate(add), gap(extra) {
    lda = (ta ? m : k) + gap;
    ldb = (tb ? k : n) + gap;
    ldc = n + gap;
    a.resize(size(lda * (ta ? k : m) + 1));
    b.resize(size(ldb * (tb ? n : k) + 1));
    before.resize(size(ldc * m + 1));
    for (T& x : a) x = small_integer<T>();
    for (T& x : b) x = small_integer<T>();
    // What is not added to must not matter, and gaps must stay.
    for (T& x : before) x = accumulate ? small_integer<T>() : std::numeric_limits<T>::quiet_NaN();
  }

  Matrix<T> left() const { return {a.data(), lda, ta}; }
  Matrix<T> right() const { return {b.data(), ldb, tb}; }

  template <class F>
  std::vector<T> run(F product) const {
    std::vector<T> c = before;
    product(m, n, k, left(), right(), c.data(), ldc, accumulate);
    return c;
  }

  std::vector<T> expected() const {
    std::vector<T> c = before;
    for (std::int64_t i = 0; i < m; ++i)
      for (std::int64_t j = 0; j < n; ++j) {
        T sum = accumulate ? c[size(i * ldc + j)] : T(0);
        for (std::int64_t l = 0; l < k; ++l)
          sum += a[size(ta ? l * lda + i : i * lda + l)] * b[size(tb ? j * ldb + l : l * ldb + j)];
        c[size(i * ldc + j)] = sum;
      }
    return c;
  }
};

template <class T>
bool same(const std::vector<T>& x, const std::vector<T>& y) {
  for (std::size_t i = 0; i < x.size(); ++i)
    if (!(x[i] == y[i] || (std::isnan(x[i]) && std::isnan(y[i])))) return false;
  return x.size() == y.size();
}

// All but `finished`.
template <class T>
void whole(std::int64_t m, std::int64_t n, std::int64_t k, Matrix<T> a, Matrix<T> b, T* c, std::int64_t ldc,
           bool accumulate) {
  gemm<T>(m, n, k, a, b, c, ldc, accumulate);
}

// Numbers whose products round, so that another order shows.
void make_uneven(Case<float>& c) {
  for (float& x : c.a) x = std::sin(static_cast<float>(&x - c.a.data()));
  for (float& x : c.b) x = std::cos(static_cast<float>(&x - c.b.data()));
}

struct EachIsa {
  Isa before = isa();
  ~EachIsa() { set_isa(before); }
  template <class F>
  void run(F f) {
    for (int i = 0; i <= static_cast<int>(best_isa()); ++i) {
      set_isa(static_cast<Isa>(i));
      INFO(name_of(isa()));
      f();
    }
  }
};

template <class T>
void check(std::int64_t m, std::int64_t n, std::int64_t k) {
  for (int variant = 0; variant < 16; ++variant) {
    const Case<T> c(m, n, k, variant & 1, variant & 2, variant & 4, variant & 8 ? 3 : 0);
    INFO(sizeof(T) * 8 << "-bit " << m << " x " << n << " x " << k << ", variant " << variant);
    const auto expected = c.expected();
    CHECK(same(c.run(whole<T>), expected));
    CHECK(same(c.run(gemm_tile<T>), expected));
  }
}

struct Threads {
  explicit Threads(int n) : before(threads()) { set_threads(n); }
  ~Threads() { set_threads(before); }
  int before;
};

}  // namespace

TEST_CASE("gemm: small products equal plain loops exactly") {
  for (const std::int64_t m : {1, 2, 3, 5, 16, 17})
    for (const std::int64_t n : {1, 2, 4, 7, 16, 33})
      for (const std::int64_t k : {1, 2, 3, 8, 19}) {
        check<float>(m, n, k);
        check<double>(m, n, k);
      }
}

TEST_CASE("gemm: products that are cut into tiles equal plain loops exactly") {
  const std::int64_t shapes[][3] = {{70, 130, 90}, {1, 700, 500}, {700, 1, 500},  {128, 10, 300},
                                    {500, 96, 41}, {8, 600, 200}, {400, 530, 70}, {513, 300, 33}};
  for (const auto& [m, n, k] : shapes) {
    check<float>(m, n, k);
    check<double>(m, n, k);
  }
}

TEST_CASE("gemm: a size of 0 gives nothing, or zeros where only the inner size is 0") {
  for (const std::int64_t m : {0, 1, 3})
    for (const std::int64_t n : {0, 1, 4})
      for (const std::int64_t k : {0, 2})
        if (m * n * k == 0) {
          check<float>(m, n, k);
          check<double>(m, n, k);
        }
}

TEST_CASE("gemm: leading dimensions of 0 are accepted where they do not matter") {
  const float a[] = {2}, b[] = {3};
  float c[] = {0};
  gemm<float>(1, 1, 1, {a, 0}, {b, 0, true}, c, 0, false);
  CHECK(c[0] == 6);
}

TEST_CASE("gemm: NaN and infinity in an operand reach the result") {
  for (const std::int64_t n : {1, 3, 40}) {
    Case<float> c(40, n, 50, false, false, false, 0);
    c.a[size(7 * c.lda + 3)] = std::numeric_limits<float>::quiet_NaN();
    c.a[size(9 * c.lda + 3)] = std::numeric_limits<float>::infinity();
    for (std::int64_t j = 0; j < n; ++j) c.b[size(3 * c.ldb + j)] = 0;
    const auto out = c.run(whole<float>);
    CHECK(std::isnan(out[size(7 * c.ldc)]));
    CHECK(std::isnan(out[size(9 * c.ldc)]));
    CHECK_FALSE(std::isnan(out[size(8 * c.ldc)]));
  }
}

TEST_CASE("gemm: the bits do not depend on the number of threads") {
  const std::int64_t shapes[][3] = {
      {128, 300, 700}, {600, 40, 500}, {1, 900, 400}, {300, 700, 128}, {16, 800, 333}};
  for (const auto& [m, n, k] : shapes)
    for (int variant = 0; variant < 4; ++variant) {
      Case<float> c(m, n, k, variant & 1, variant & 2, false, 0);
      make_uneven(c);
      std::vector<float> first;
      for (const int t : {1, 2, 3, 4, 8}) {
        const Threads set(t);
        std::vector<float> out = c.run(whole<float>);
        out.pop_back();  // never written
        if (first.empty()) first = out;
        CHECK(std::memcmp(out.data(), first.data(), out.size() * sizeof(float)) == 0);
      }
    }
}

TEST_CASE("gemm: a row by a wide matrix is shared by however many threads there are") {
  Case<float> c(1, 16640, 64, false, false, false, 0);
  make_uneven(c);
  const std::vector<float> alone = [&] {
    const Threads set(1);
    return c.run(whole<float>);
  }();
  for (const int t : {4, 130, 192}) {
    const Threads set(t);
    const std::vector<float> out = c.run(whole<float>);
    CHECK(std::memcmp(out.data(), alone.data(), (out.size() - 1) * sizeof(float)) == 0);
  }
}

TEST_CASE("gemm: every tail of every instruction set equals plain loops exactly") {
  EachIsa().run([] {
    // Each size alone runs over all tails; the two others then are odd ones and whole ones in turn.
    for (std::int64_t size = 0; size <= 35; ++size)
      for (const std::int64_t other : {3, 16, 33})
        for (const std::int64_t third : {1, 14, 32}) {
          check<float>(size, other, third);
          check<float>(other, size, third);
          check<float>(other, third, size);
        }
  });
}

TEST_CASE("gemm: blocks, depths and strips of every instruction set equal plain loops exactly") {
  const std::int64_t shapes[][3] = {{43, 300, 800}, {700, 65, 30},  {45, 70, 385}, {650, 520, 9},
                                    {1, 1100, 390}, {2, 530, 70},   {333, 1, 770}, {60, 40, 1024},
                                    {44, 70, 767},  {7, 290, 1030}, {8, 65, 2050}};
  EachIsa().run([&] {
    for (const auto& [m, n, k] : shapes) check<float>(m, n, k);
  });
}

TEST_CASE("gemm: rows at a distance of 4096 bytes give the same bits as others") {
  EachIsa().run([] {
    Case<float> far(40, 70, 1024, false, false, false, 0), near(40, 70, 1024, false, false, false, 3);
    make_uneven(far);
    for (std::int64_t i = 0; i < 40; ++i)
      std::copy_n(far.a.data() + i * far.lda, 1024, near.a.data() + i * near.lda);
    for (std::int64_t l = 0; l < 1024; ++l)
      std::copy_n(far.b.data() + l * far.ldb, 70, near.b.data() + l * near.ldb);
    const auto x = far.run(whole<float>), y = near.run(whole<float>);
    for (std::int64_t i = 0; i < 40; ++i)
      CHECK(std::memcmp(x.data() + i * far.ldc, y.data() + i * near.ldc, 70 * sizeof(float)) == 0);
  });
}

TEST_CASE("gemm: an element is one chain of fused multiply-adds, in the order of the inner axis") {
  if (isa() == Isa::baseline) {
    skipped("gemm: an element is one chain of fused multiply-adds, in the order of the inner axis",
            "the processor, or what OPGRAD_ISA leaves of it, has no fused multiply-add");
    return;
  }
  for (const std::int64_t m : {1, 7, 45})
    for (int variant = 0; variant < 8; ++variant) {
      Case<float> c(m, 37, 900, variant & 1, variant & 2, variant & 4, 0);
      make_uneven(c);
      const auto out = c.run(whole<float>);
      int wrong = 0;
      for (std::int64_t i = 0; i < c.m; ++i)
        for (std::int64_t j = 0; j < c.n; ++j) {
          float sum = c.accumulate ? c.before[size(i * c.ldc + j)] : 0;
          for (std::int64_t l = 0; l < c.k; ++l)
            sum = std::fma(c.a[size(c.ta ? l * c.lda + i : i * c.lda + l)],
                           c.b[size(c.tb ? j * c.ldb + l : l * c.ldb + j)], sum);
          wrong += sum != out[size(i * c.ldc + j)];
        }
      INFO(m, " rows, variant ", variant);
      CHECK(wrong == 0);
    }
}

TEST_CASE("gemm: an element has the same bits when fewer rows and columns are computed") {
  EachIsa().run([] {
    for (int variant = 0; variant < 4; ++variant) {
      Case<float> c(300, 290, 500, variant & 1, variant & 2, false, 0);
      make_uneven(c);
      const auto all = c.run(whole<float>);
      const std::int64_t parts[][4] = {{0, 1, 0, 290},     {299, 300, 7, 8},  {3, 5, 0, 260},
                                       {0, 300, 100, 101}, {10, 60, 33, 150}, {100, 108, 0, 290}};
      for (const auto& part_of_c : parts) {
        const std::int64_t i0 = part_of_c[0], i1 = part_of_c[1], j0 = part_of_c[2], j1 = part_of_c[3];
        const Matrix<float> a{c.a.data() + (c.ta ? i0 : i0 * c.lda), c.lda, c.ta};
        const Matrix<float> b{c.b.data() + (c.tb ? j0 * c.ldb : j0), c.ldb, c.tb};
        const std::int64_t m = i1 - i0, n = j1 - j0;
        std::vector<float> part(size(m * n));
        gemm<float>(m, n, c.k, a, b, part.data(), n, false);
        int wrong = 0;
        for (std::int64_t i = 0; i < m; ++i)
          for (std::int64_t j = 0; j < n; ++j)
            wrong += part[size(i * n + j)] != all[size((i0 + i) * c.ldc + j0 + j)];
        INFO("variant ", variant, ", rows ", i0, " to ", i1, ", columns ", j0, " to ", j1);
        CHECK(wrong == 0);
      }
    }
  });
}

TEST_CASE("gemm: a sum of negative zeros is +0 unless it begins with one") {
  for (const std::int64_t n : {1, 5, 40}) {
    const std::vector<float> zeros(size(n * 3), -0.0F);
    const float ones[] = {1, 1, 1};
    std::vector<float> c(size(n), -0.0F);
    gemm<float>(1, n, 3, {ones, 3}, {zeros.data(), n}, c.data(), n, true);
    for (const float x : c) CHECK(std::signbit(x));
    gemm<float>(1, n, 3, {ones, 3}, {zeros.data(), n}, c.data(), n, false);
    for (const float x : c) CHECK_FALSE(std::signbit(x));
  }
}

namespace {
// Products that report to `finished`: each element once, and not before its value is final.
template <class T>
void check_pieces(std::int64_t m, std::int64_t n, std::int64_t k) {
  for (int variant = 0; variant < 8; ++variant) {
    const Case<T> c(m, n, k, variant & 1, variant & 2, variant & 4, 0);
    const std::vector<T> expected = c.expected();
    std::vector<T> out = c.before;
    std::vector<std::atomic<int>> told(size(m * n));
    std::atomic<int> early{0}, narrow{0};
    const auto tell = [&](std::int64_t begin, std::int64_t end) {
      narrow += end - begin < std::min<std::int64_t>(n, 256) && end % n != 0;
      for (std::int64_t e = begin; e < end; ++e) {
        ++told[size(e)];
        early += out[size(e)] != expected[size(e)];
      }
    };
    const Finished finished = tell;
    gemm<T>(m, n, k, c.left(), c.right(), out.data(), n, c.accumulate, &finished);
    INFO(m << " x " << n << " x " << k << ", variant " << variant);
    CHECK(std::all_of(told.begin(), told.end(), [](const auto& times) { return times == 1; }));
    CHECK(early == 0);
    CHECK(narrow == 0);
  }
}
}  // namespace

TEST_CASE("gemm: finished pieces cover every element once, when its value is final") {
  const std::int64_t shapes[][3] = {{128, 1024, 40}, {128, 1000, 20}, {700, 40, 30}, {650, 530, 9},
                                    {5, 900, 100},   {900, 1, 500},   {1, 900, 500}, {3, 4, 5},
                                    {330, 600, 0},   {0, 7, 3},       {7, 0, 3},     {1, 1, 0}};
  for (const int t : {1, 2, 4}) {
    const Threads set(t);
    for (const auto& [m, n, k] : shapes) {
      check_pieces<float>(m, n, k);
      check_pieces<double>(m, n, k);
    }
  }
}

TEST_CASE("gemm: pieces of a matrix with gaps are refused") {
  const float a[] = {1, 2};
  float c[6] = {};
  const auto tell = [](std::int64_t, std::int64_t) {};
  const Finished finished = tell;
  CHECK_THROWS_AS(gemm<float>(2, 1, 1, {a, 1}, {a, 1}, c, 3, false, &finished), InternalError);
}

TEST_CASE("gemm: works inside a parallel loop") {
  const Case<float> c(130, 300, 80, false, true, false, 0);
  const auto expected = c.expected();
  std::atomic<int> wrong{0};
  parallel_for(6, [&](std::int64_t) { wrong += !same(c.run(whole<float>), expected); });
  CHECK(wrong == 0);
}

TEST_CASE("gemm_choice: names the way by shape, transposes and dtype") {
  using std::string;
  CHECK(string(gemm_choice(128, 1024, 1600, false, false, DType::f32)) == "B in strips");
  CHECK(string(gemm_choice(128, 1600, 1024, false, true, DType::f32)) == "B transposed in strips");
  CHECK(string(gemm_choice(8, 1024, 1600, false, false, DType::f32)) == "B in place");
  CHECK(string(gemm_choice(900, 1, 50, true, false, DType::f32)) == "B in place");
  // Baseline has no kernels that turn B round in registers.
  const string few = isa() == Isa::baseline ? "B transposed in strips" : "B transposed in registers";
  CHECK(string(gemm_choice(900, 1, 50, false, false, DType::f32)) == few);
  CHECK(string(gemm_choice(1, 1600, 1024, false, true, DType::f32)) == few);
  CHECK(string(gemm_choice(1, 1600, 1024, true, true, DType::f32)) == "B transposed in strips");
  CHECK(string(gemm_choice(128, 1024, 1600, false, false, DType::f64)) == "OpenBLAS");
  CHECK(string(gemm_choice(3, 4, 0, false, false, DType::f32)) == "zeros");
  CHECK(string(gemm_choice(3, 0, 4, false, false, DType::f32)) == "nothing");
  CHECK_THROWS_AS(gemm_choice(3, 4, 5, false, false, DType::i32), UserError);
}

TEST_CASE("gemm: tiles may run in many threads at once") {
  const Case<float> c(60, 70, 80, false, true, false, 0);
  const auto expected = c.expected();
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int t = 0; t < 8; ++t)
    callers.emplace_back([&] {
      for (int round = 0; round < 50; ++round) wrong += !same(c.run(gemm_tile<float>), expected);
    });
  for (std::thread& t : callers) t.join();
  CHECK(wrong == 0);
}
