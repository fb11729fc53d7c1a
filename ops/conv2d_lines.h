// Winograd's transforms along one direction, on packs: of m outputs, m + 2 products (conv2d_transforms.h).
#pragma once
#include "vectors.h"

namespace opgrad {

template <int m>
struct Line;

template <>
struct Line<2> {
  // d = B' d.
  template <class P>
  [[gnu::always_inline]] static void input(P (&d)[4]) {
    const P one = d[1] + d[2], two = d[2] - d[1], three = d[1] - d[3];
    d[0] = d[0] - d[2];
    d[1] = one;
    d[2] = two;
    d[3] = three;
  }
  // y = A' p, of which there are 4, 3 or 1: the others are 0, or no output that is wanted needs them.
  template <int products, class P>
  [[gnu::always_inline]] static void output(const P (&p)[4], P (&y)[2]) {
    y[0] = p[0];
    if constexpr (products == 1) {
      y[1] = P(0);
    } else {
      y[0] = (p[0] + p[1]) + p[2];
      y[1] = p[1] - p[2];
      if constexpr (products == 4) y[1] = y[1] - p[3];
    }
  }
  // p = A y.
  template <class P>
  [[gnu::always_inline]] static void delta(const P (&y)[2], P (&p)[4]) {
    p[0] = y[0];
    p[1] = y[0] + y[1];
    p[2] = y[0] - y[1];
    p[3] = -y[1];
  }
  // p = G g.
  template <class P>
  [[gnu::always_inline]] static void kernel(const P (&g)[3], P (&p)[4]) {
    const P half = 0.5f, sum = g[0] + g[2];
    p[0] = g[0];
    p[1] = half * (sum + g[1]);
    p[2] = half * (sum - g[1]);
    p[3] = g[2];
  }
  // g = G' p.
  template <class P>
  [[gnu::always_inline]] static void kernel_gradient(const P (&p)[4], P (&g)[3]) {
    const P half = 0.5f, sum = half * (p[1] + p[2]);
    g[0] = p[0] + sum;
    g[1] = half * (p[1] - p[2]);
    g[2] = sum + p[3];
  }
};

// At the points 0, a, -a, b, -b and infinity, a = sqrt(1/2), b = sqrt(2).
template <>
struct Line<4> {
  static constexpr float a = 0.70710678f, b = 1.41421356f;

  template <class P>
  [[gnu::always_inline]] static void input(P (&d)[6]) {
    const P even_a = multiply_add(P(-2.0f), d[2], d[4]), odd_a = multiply_add(P(-2.0f), d[1], d[3]);
    const P even_b = multiply_add(P(-0.5f), d[2], d[4]), odd_b = multiply_add(P(-0.5f), d[1], d[3]);
    d[0] = multiply_add(P(-2.5f), d[2], d[0] + d[4]);
    d[5] = multiply_add(P(-2.5f), d[3], d[1] + d[5]);
    d[1] = multiply_add(P(a), odd_a, even_a);
    d[2] = multiply_add(P(-a), odd_a, even_a);
    d[3] = multiply_add(P(b), odd_b, even_b);
    d[4] = multiply_add(P(-b), odd_b, even_b);
  }
  template <int products, class P>
  [[gnu::always_inline]] static void output(const P (&p)[6], P (&y)[4]) {
    if constexpr (products == 1) {
      y[0] = p[0];
      y[1] = y[2] = y[3] = P(0);
    } else {
      const P even_a = p[1] + p[2], odd_a = p[1] - p[2], even_b = p[3] + p[4], odd_b = p[3] - p[4];
      y[0] = p[0] + (even_a + even_b);
      y[1] = multiply_add(P(b), odd_b, P(a) * odd_a);
      y[2] = multiply_add(P(2.0f), even_b, P(0.5f) * even_a);
      if constexpr (products == 6)
        y[3] = multiply_add(P(2 * b), odd_b, multiply_add(P(a / 2), odd_a, p[5]));
      else
        y[3] = P(0);
    }
  }
  template <class P>
  [[gnu::always_inline]] static void delta(const P (&y)[4], P (&p)[6]) {
    const P even_a = multiply_add(P(0.5f), y[2], y[0]), odd_a = multiply_add(P(0.5f), y[3], y[1]);
    const P even_b = multiply_add(P(2.0f), y[2], y[0]), odd_b = multiply_add(P(2.0f), y[3], y[1]);
    p[0] = y[0];
    p[1] = multiply_add(P(a), odd_a, even_a);
    p[2] = multiply_add(P(-a), odd_a, even_a);
    p[3] = multiply_add(P(b), odd_b, even_b);
    p[4] = multiply_add(P(-b), odd_b, even_b);
    p[5] = y[3];
  }
  template <class P>
  [[gnu::always_inline]] static void kernel(const P (&g)[3], P (&p)[6]) {
    const P even_a = P(-1 / 1.5f) * multiply_add(P(0.5f), g[2], g[0]);
    const P even_b = P(1 / 6.0f) * multiply_add(P(2.0f), g[2], g[0]);
    p[0] = g[0];
    p[1] = multiply_add(P(-a / 1.5f), g[1], even_a);
    p[2] = multiply_add(P(a / 1.5f), g[1], even_a);
    p[3] = multiply_add(P(b / 6), g[1], even_b);
    p[4] = multiply_add(P(-b / 6), g[1], even_b);
    p[5] = g[2];
  }
  template <class P>
  [[gnu::always_inline]] static void kernel_gradient(const P (&p)[6], P (&g)[3]) {
    const P even_a = P(-1 / 1.5f) * (p[1] + p[2]), even_b = P(1 / 6.0f) * (p[3] + p[4]);
    g[0] = p[0] + (even_a + even_b);
    g[1] = multiply_add(P(b / 6), p[3] - p[4], P(-a / 1.5f) * (p[1] - p[2]));
    g[2] = multiply_add(P(2.0f), even_b, multiply_add(P(0.5f), even_a, p[5]));
  }
};

}  // namespace opgrad
