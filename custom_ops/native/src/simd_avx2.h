// Sixteen lanes in pairs of AVX2 registers. With AVX_VNNI defined, its dot products are used.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "simd_x86.h"

namespace {

constexpr bool kManyRegisters = false;
constexpr int kTokens = 4;  // sums that are kept in registers, for as many tokens
constexpr int kGroups = 1;  // groups of rows that share them
#ifdef AVX_VNNI
constexpr const char* kName = "avx-vnni";
constexpr int kCodeOffset = 128;  // what `signed_codes` adds to make codes unsigned
#else
constexpr const char* kName = "avx2";
constexpr int kCodeOffset = 0;
#endif

struct F32 {
  __m256 a, b;

  static F32 zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
  static F32 all(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
  static F32 load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  static F32 load_half(const void* p) {
    const auto* halves = static_cast<const __m128i*>(p);
    return {_mm256_cvtph_ps(_mm_loadu_si128(halves)), _mm256_cvtph_ps(_mm_loadu_si128(halves + 1))};
  }
  static F32 load_bfloat(const void* p) {
    const auto* bits = static_cast<const __m128i*>(p);
    const auto widened = [](__m128i v) {
      return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(v), 16));
    };
    return {widened(_mm_loadu_si128(bits)), widened(_mm_loadu_si128(bits + 1))};
  }
  void store(float* p) const {
    _mm256_storeu_ps(p, a);
    _mm256_storeu_ps(p + 8, b);
  }
  void store_half(void* p) const {
    auto* halves = static_cast<__m128i*>(p);
    _mm_storeu_si128(halves, _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128(halves + 1, _mm256_cvtps_ph(b, _MM_FROUND_TO_NEAREST_INT));
  }
};

inline F32 operator+(F32 x, F32 y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
inline F32 operator-(F32 x, F32 y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
inline F32 operator*(F32 x, F32 y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
inline F32 operator/(F32 x, F32 y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
inline F32 fma(F32 x, F32 y, F32 z) { return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)}; }
// y where one of the two is not a number.
inline F32 max(F32 x, F32 y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
inline F32 min(F32 x, F32 y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
// x where `compared` is above `limit` or not a number, 0 elsewhere.
inline F32 zero_unless_above(F32 x, F32 compared, float limit) {
  const __m256 bound = _mm256_set1_ps(limit);
  return {_mm256_and_ps(x.a, _mm256_cmp_ps(compared.a, bound, _CMP_NLE_UQ)),
          _mm256_and_ps(x.b, _mm256_cmp_ps(compared.b, bound, _CMP_NLE_UQ))};
}

struct I32 {
  __m256i a, b;

  static I32 zero() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
  static I32 all(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
  // Sixteen signed bytes.
  static I32 load_bytes(const void* p) {
    const __m128i bytes = _mm_loadu_si128(static_cast<const __m128i*>(p));
    return {_mm256_cvtepi8_epi32(bytes), _mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8))};
  }
  // To sixteen signed bytes, saturating.
  void store_bytes(int8_t* p) const {
    // Packing works within halves of 128 bits, so the quarters have to be put in order.
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
    const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
  }
};

inline I32 operator+(I32 x, I32 y) { return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
inline I32 operator&(I32 x, I32 y) { return {_mm256_and_si256(x.a, y.a), _mm256_and_si256(x.b, y.b)}; }
inline I32 operator*(I32 x, I32 y) { return {_mm256_mullo_epi32(x.a, y.a), _mm256_mullo_epi32(x.b, y.b)}; }
template <int bits>
inline I32 shift_left(I32 x) {
  return {_mm256_slli_epi32(x.a, bits), _mm256_slli_epi32(x.b, bits)};
}
template <int bits>
inline I32 shift_right(I32 x) {
  return {_mm256_srli_epi32(x.a, bits), _mm256_srli_epi32(x.b, bits)};
}
inline F32 to_float(I32 x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
// To the nearest integer, to even if there are two.
inline I32 round(F32 x) { return {_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)}; }
inline F32 as_float(I32 x) { return {_mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b)}; }

inline float sum(F32 x) { return sum_of_eight(_mm256_add_ps(x.a, x.b)); }
inline int32_t sum(I32 x) {
  const __m256i eight = _mm256_add_epi32(x.a, x.b);
  const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  const __m128i two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
  return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 1)));
}
inline float largest(F32 x) { return largest_of_eight(_mm256_max_ps(x.a, x.b)); }
// The bits of the largest magnitude; those of NaN are above all others.
inline uint32_t largest_magnitude_bits(F32 x, F32 y) {
  const __m256i mask = _mm256_set1_epi32(0x7fffffff);
  const auto bits = [&](__m256 v) { return _mm256_and_si256(_mm256_castps_si256(v), mask); };
  const __m256i of_x = _mm256_max_epi32(bits(x.a), bits(x.b)), of_y = _mm256_max_epi32(bits(y.a), bits(y.b));
  const __m256i eight = _mm256_max_epi32(of_x, of_y);
  const __m128i four = _mm_max_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  const __m128i two = _mm_max_epi32(four, _mm_unpackhi_epi64(four, four));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(_mm_max_epi32(two, _mm_shuffle_epi32(two, 1))));
}
// The first `count` lanes of x, the others `rest`.
inline F32 keep_first(F32 x, int count, float rest) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), limit = _mm256_set1_epi32(count);
  const __m256 other = _mm256_set1_ps(rest);
  const __m256i first = _mm256_cmpgt_epi32(limit, lane);
  const __m256i second = _mm256_cmpgt_epi32(limit, _mm256_add_epi32(lane, _mm256_set1_epi32(8)));
  return {_mm256_blendv_ps(other, x.a, _mm256_castsi256_ps(first)),
          _mm256_blendv_ps(other, x.b, _mm256_castsi256_ps(second))};
}

// Four codes of each of sixteen rows.
struct Codes {
  __m256i a, b;

  static Codes load(const uint8_t* p) {
    const auto* halves = reinterpret_cast<const __m256i*>(p);
    return {_mm256_loadu_si256(halves), _mm256_loadu_si256(halves + 1)};
  }
};

inline Codes low_nibbles(Codes c) {
  const __m256i mask = _mm256_set1_epi8(15);
  return {_mm256_and_si256(c.a, mask), _mm256_and_si256(c.b, mask)};
}
inline Codes high_nibbles(Codes c) { return low_nibbles({_mm256_srli_epi16(c.a, 4), _mm256_srli_epi16(c.b, 4)}); }
template <int left>  // negative to the right
inline __m256i moved(__m256i v) {
  if constexpr (left > 0) return _mm256_slli_epi16(v, left);
  if constexpr (left < 0) return _mm256_srli_epi16(v, -left);
  return v;
}
// `count` bits of each code, from bit `place` on.
template <int count, int place>
inline Codes bits(Codes c) {
  const __m256i mask = _mm256_set1_epi8((1 << count) - 1);
  return {_mm256_and_si256(moved<-place>(c.a), mask), _mm256_and_si256(moved<-place>(c.b), mask)};
}
// `low`, and from its bit `above` on `count` bits of `high`, from bit `place` on.
template <int count, int place, int above>
inline Codes with_bits(Codes low, Codes high) {
  const __m256i mask = _mm256_set1_epi8(((1 << count) - 1) << above);
  return {_mm256_or_si256(low.a, _mm256_and_si256(moved<above - place>(high.a), mask)),
          _mm256_or_si256(low.b, _mm256_and_si256(moved<above - place>(high.b), mask))};
}
// What a table has for each of some nibbles.
inline Codes look_up(const uint8_t (&table)[16], Codes nibbles) {
  const __m256i tables = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
  return {_mm256_shuffle_epi8(tables, nibbles.a), _mm256_shuffle_epi8(tables, nibbles.b)};
}
// The four codes of each row as one number.
inline I32 as_words(Codes c) { return {c.a, c.b}; }
// Signed codes as `dot_signed` wants them.
inline Codes signed_codes(Codes c) {
  if (kCodeOffset == 0) return c;
  const __m256i sign = _mm256_set1_epi8(-128);
  return {_mm256_xor_si256(c.a, sign), _mm256_xor_si256(c.b, sign)};
}

// Four activations of one token, for all rows.
struct Activations {
  __m256i v;

  static Activations load(const int8_t* p) {
    int32_t four;
    std::memcpy(&four, p, 4);
    return {_mm256_set1_epi32(four)};
  }
};

// sum + the product of each row's four codes and the activations.
#ifdef AVX_VNNI
inline I32 dot(I32 sum, Codes codes, Activations x) {
  return {_mm256_dpbusd_avx_epi32(sum.a, codes.a, x.v), _mm256_dpbusd_avx_epi32(sum.b, codes.b, x.v)};
}
inline I32 dot_signed(I32 sum, Codes codes, Activations x) { return dot(sum, codes, x); }
#else
// Pairs of products in 16 bits: with codes of at most six bits, or 128 in magnitude, they do not overflow.
inline __m256i add_pairs(__m256i sum, __m256i unsigned_codes, __m256i x) {
  return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(unsigned_codes, x), _mm256_set1_epi16(1)));
}
inline I32 dot(I32 sum, Codes codes, Activations x) {
  return {add_pairs(sum.a, codes.a, x.v), add_pairs(sum.b, codes.b, x.v)};
}
inline I32 dot_signed(I32 sum, Codes codes, Activations x) {
  return {add_pairs(sum.a, _mm256_abs_epi8(codes.a), _mm256_sign_epi8(x.v, codes.a)),
          add_pairs(sum.b, _mm256_abs_epi8(codes.b), _mm256_sign_epi8(x.v, codes.b))};
}
#endif

inline void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }

}  // namespace
