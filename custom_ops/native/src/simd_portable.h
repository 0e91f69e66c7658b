// Sixteen lanes in plain C++, which compilers vectorize as far as the target has vectors.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>

// One token takes twice as long if everything is one function, which compilers vectorize less of.
#define NATIVE_INLINED

#include "fused.h"
#include "half.h"

namespace {

constexpr const char* kName = "portable";
constexpr bool kManyRegisters = false;
constexpr int kTokens = 4;  // sums that are kept at a time, for as many tokens
constexpr int kGroups = 1;  // groups of rows that share them
constexpr int kCodeOffset = 0;

using native::from_bfloat;
using native::from_half;

// To the nearest float16, to even if there are two.
inline uint16_t to_half(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  bits &= 0x7fffffff;
  if (bits > 0x7f800000) return sign | 0x7e00;  // not a number
  if (bits >= 0x477ff000) return sign | 0x7c00;  // rounds to infinity
  if (bits < 0x38800000) {  // subnormal: adding 0.5 leaves the bits wanted at the end of the fraction
    float magnitude;
    std::memcpy(&magnitude, &bits, 4);
    magnitude += 0.5f;
    std::memcpy(&bits, &magnitude, 4);
    return static_cast<uint16_t>(sign | (bits - 0x3f000000));
  }
  bits += 0xfff + (bits >> 13 & 1);
  return static_cast<uint16_t>(sign | ((bits >> 13) - (112 << 10)));
}

struct F32 {
  float v[16];

  static F32 zero() { return all(0.0f); }
  static F32 all(float x) {
    F32 r;
    for (float& lane : r.v) lane = x;
    return r;
  }
  static F32 load(const float* p) {
    F32 r;
    std::memcpy(r.v, p, sizeof r.v);
    return r;
  }
  static F32 load_half(const void* p) {
    uint16_t halves[16];
    std::memcpy(halves, p, sizeof halves);
    F32 r;
    for (int i = 0; i < 16; ++i) r.v[i] = from_half(halves[i]);
    return r;
  }
  static F32 load_bfloat(const void* p) {
    uint16_t bits[16];
    std::memcpy(bits, p, sizeof bits);
    F32 r;
    for (int i = 0; i < 16; ++i) r.v[i] = from_bfloat(bits[i]);
    return r;
  }
  void store(float* p) const { std::memcpy(p, v, sizeof v); }
  void store_half(void* p) const {
    uint16_t halves[16];
    for (int i = 0; i < 16; ++i) halves[i] = to_half(v[i]);
    std::memcpy(p, halves, sizeof halves);
  }
};

template <class Function>
inline F32 each(F32 a, F32 b, const Function& f) {
  F32 r;
  for (int i = 0; i < 16; ++i) r.v[i] = f(a.v[i], b.v[i]);
  return r;
}

inline F32 operator+(F32 a, F32 b) {
  return each(a, b, [](float x, float y) { return x + y; });
}
inline F32 operator-(F32 a, F32 b) {
  return each(a, b, [](float x, float y) { return x - y; });
}
inline F32 operator*(F32 a, F32 b) {
  return each(a, b, [](float x, float y) { return x * y; });
}
inline F32 operator/(F32 a, F32 b) {
  return each(a, b, [](float x, float y) { return x / y; });
}
inline F32 fma(F32 a, F32 b, F32 c) {
  for (int i = 0; i < 16; i += 4) native::fuse(a.v + i, b.v + i, c.v + i);
  return c;
}
// b where one of the two is not a number.
inline F32 max(F32 a, F32 b) {
  return each(a, b, [](float x, float y) { return x > y ? x : y; });
}
inline F32 min(F32 a, F32 b) {
  return each(a, b, [](float x, float y) { return x < y ? x : y; });
}
// x where `compared` is above `limit` or not a number, 0 elsewhere.
inline F32 zero_unless_above(F32 x, F32 compared, float limit) {
  return each(x, compared, [=](float value, float y) { return y <= limit ? 0.0f : value; });
}

struct I32 {
  int32_t v[16];

  static I32 zero() { return all(0); }
  static I32 all(int32_t x) {
    I32 r;
    for (int32_t& lane : r.v) lane = x;
    return r;
  }
  // Sixteen signed bytes.
  static I32 load_bytes(const void* p) {
    int8_t bytes[16];
    std::memcpy(bytes, p, sizeof bytes);
    I32 r;
    for (int i = 0; i < 16; ++i) r.v[i] = bytes[i];
    return r;
  }
  // To sixteen signed bytes, saturating.
  void store_bytes(int8_t* p) const {
    for (int i = 0; i < 16; ++i) p[i] = static_cast<int8_t>(v[i] > 127 ? 127 : v[i] < -128 ? -128 : v[i]);
  }
};

inline I32 operator+(I32 a, I32 b) {
  for (int i = 0; i < 16; ++i) a.v[i] += b.v[i];
  return a;
}
inline I32 operator&(I32 a, I32 b) {
  for (int i = 0; i < 16; ++i) a.v[i] &= b.v[i];
  return a;
}
inline I32 operator*(I32 a, I32 b) {
  for (int i = 0; i < 16; ++i) a.v[i] *= b.v[i];
  return a;
}
template <int bits>
inline I32 shift_left(I32 a) {
  for (int i = 0; i < 16; ++i) a.v[i] = static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) << bits);
  return a;
}
template <int bits>
inline I32 shift_right(I32 a) {
  for (int i = 0; i < 16; ++i) a.v[i] = static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) >> bits);
  return a;
}
inline F32 to_float(I32 a) {
  F32 r;
  for (int i = 0; i < 16; ++i) r.v[i] = static_cast<float>(a.v[i]);
  return r;
}
// To the nearest integer, to even if there are two; the smallest for what is none.
inline I32 round(F32 a) {
  I32 r;
  for (int i = 0; i < 16; ++i)
    r.v[i] = std::fabs(a.v[i]) < 2147483648.0f ? static_cast<int32_t>(std::nearbyint(a.v[i])) : INT32_MIN;
  return r;
}
inline F32 as_float(I32 a) {
  F32 r;
  std::memcpy(r.v, a.v, sizeof r.v);
  return r;
}

// Halves, then halves of those: the order of all instruction sets.
inline float sum(F32 a) {
  for (int width = 8; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) a.v[i] += a.v[i + width];
  return a.v[0];
}
inline int32_t sum(I32 a) {
  uint32_t r = 0;  // wraps, as vector units do, where codes of what is not a number are added
  for (int32_t lane : a.v) r += static_cast<uint32_t>(lane);
  return static_cast<int32_t>(r);
}
inline float largest(F32 a) {
  for (int width = 8; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) a.v[i] = a.v[i] > a.v[i + width] ? a.v[i] : a.v[i + width];
  return a.v[0];
}
// The bits of the largest magnitude; those of NaN are above all others.
inline uint32_t largest_magnitude_bits(F32 a, F32 b) {
  uint32_t r = 0;
  for (const F32& lanes : {a, b}) {
    for (float lane : lanes.v) {
      uint32_t bits;
      std::memcpy(&bits, &lane, 4);
      bits &= 0x7fffffff;
      if (bits > r) r = bits;
    }
  }
  return r;
}
// The first `count` lanes of a, the others `rest`.
inline F32 keep_first(F32 a, int count, float rest) {
  for (int i = count < 0 ? 0 : count; i < 16; ++i) a.v[i] = rest;
  return a;
}

// Four codes of each of sixteen rows.
struct Codes {
  uint8_t v[64];

  static Codes load(const uint8_t* p) {
    Codes r;
    std::memcpy(r.v, p, sizeof r.v);
    return r;
  }
};

inline Codes low_nibbles(Codes c) {
  for (uint8_t& code : c.v) code &= 15;
  return c;
}
inline Codes high_nibbles(Codes c) {
  for (uint8_t& code : c.v) code >>= 4;
  return c;
}
// `count` bits of each code, from bit `place` on.
template <int count, int place>
inline Codes bits(Codes c) {
  for (uint8_t& code : c.v) code = code >> place & ((1 << count) - 1);
  return c;
}
// `low`, and from its bit `above` on `count` bits of `high`, from bit `place` on.
template <int count, int place, int above>
inline Codes with_bits(Codes low, Codes high) {
  constexpr int mask = (1 << count) - 1;
  for (int i = 0; i < 64; ++i) low.v[i] |= static_cast<uint8_t>((high.v[i] >> place & mask) << above);
  return low;
}
// What a table has for each of some nibbles.
inline Codes look_up(const uint8_t (&table)[16], Codes nibbles) {
  for (uint8_t& code : nibbles.v) code = table[code];
  return nibbles;
}
// The four codes of each row as one number.
inline I32 as_words(Codes c) {
  I32 r;
  std::memcpy(r.v, c.v, sizeof r.v);
  return r;
}
inline Codes signed_codes(Codes c) { return c; }

// Four activations of one token, for all rows.
struct Activations {
  int8_t v[4];

  static Activations load(const int8_t* p) {
    Activations r;
    std::memcpy(r.v, p, sizeof r.v);
    return r;
  }
};

// sum + the product of each row's four codes and the activations.
inline I32 dot(I32 sum, const Codes& codes, Activations x) {
  for (int lane = 0; lane < 16; ++lane)
    for (int i = 0; i < 4; ++i) sum.v[lane] += codes.v[4 * lane + i] * x.v[i];
  return sum;
}
inline I32 dot_signed(I32 sum, const Codes& codes, Activations x) {
  for (int lane = 0; lane < 16; ++lane)
    for (int i = 0; i < 4; ++i) sum.v[lane] += static_cast<int8_t>(codes.v[4 * lane + i]) * x.v[i];
  return sum;
}

inline void prefetch(const void* p) { __builtin_prefetch(p); }

}  // namespace
