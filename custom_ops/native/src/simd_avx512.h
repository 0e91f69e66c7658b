// Sixteen lanes in AVX-512 registers, with the dot products of AVX-512 VNNI.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "simd_x86.h"

namespace {

constexpr const char* kName = "avx512-vnni";
constexpr bool kManyRegisters = true;
constexpr int kTokens = 16;       // sums that are kept in registers, for as many tokens
constexpr int kGroups = 2;        // groups of rows that share them, so that activations are loaded less often
constexpr int kCodeOffset = 128;  // what `signed_codes` adds to make codes unsigned

struct F32 {
  __m512 v;

  static F32 zero() { return {_mm512_setzero_ps()}; }
  static F32 all(float x) { return {_mm512_set1_ps(x)}; }
  static F32 load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static F32 load_half(const void* p) { return {_mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)))}; }
  static F32 load_bfloat(const void* p) {
    const __m256i bits = _mm256_loadu_si256(static_cast<const __m256i*>(p));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))};
  }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
  void store_half(void* p) const {
    _mm256_storeu_si256(static_cast<__m256i*>(p), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
  }
};

inline F32 operator+(F32 a, F32 b) { return {_mm512_add_ps(a.v, b.v)}; }
inline F32 operator-(F32 a, F32 b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline F32 operator*(F32 a, F32 b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline F32 operator/(F32 a, F32 b) { return {_mm512_div_ps(a.v, b.v)}; }
inline F32 fma(F32 a, F32 b, F32 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
// b where one of the two is not a number.
inline F32 max(F32 a, F32 b) { return {_mm512_max_ps(a.v, b.v)}; }
inline F32 min(F32 a, F32 b) { return {_mm512_min_ps(a.v, b.v)}; }
// x where `limit` < x or x is not a number, 0 elsewhere.
inline F32 zero_unless_above(F32 x, F32 compared, float limit) {
  return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(compared.v, _mm512_set1_ps(limit), _CMP_NLE_UQ), x.v)};
}

struct I32 {
  __m512i v;

  static I32 zero() { return {_mm512_setzero_si512()}; }
  static I32 all(int32_t x) { return {_mm512_set1_epi32(x)}; }
  // Sixteen signed bytes.
  static I32 load_bytes(const void* p) {
    return {_mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)))};
  }
  // To sixteen signed bytes, saturating.
  void store_bytes(int8_t* p) const { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtsepi32_epi8(v)); }
};

inline I32 operator+(I32 a, I32 b) { return {_mm512_add_epi32(a.v, b.v)}; }
inline I32 operator&(I32 a, I32 b) { return {_mm512_and_si512(a.v, b.v)}; }
inline I32 operator*(I32 a, I32 b) { return {_mm512_mullo_epi32(a.v, b.v)}; }
template <int bits>
inline I32 shift_left(I32 a) {
  return {_mm512_slli_epi32(a.v, bits)};
}
template <int bits>
inline I32 shift_right(I32 a) {
  return {_mm512_srli_epi32(a.v, bits)};
}
inline F32 to_float(I32 a) { return {_mm512_cvtepi32_ps(a.v)}; }
// To the nearest integer, to even if there are two.
inline I32 round(F32 a) { return {_mm512_cvtps_epi32(a.v)}; }
inline F32 as_float(I32 a) { return {_mm512_castsi512_ps(a.v)}; }

// By halves, where the order of `_mm512_reduce_add_ps` is the compiler's.
inline float sum(F32 a) {
  return sum_of_eight(_mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1)));
}
inline int32_t sum(I32 a) { return _mm512_reduce_add_epi32(a.v); }
inline float largest(F32 a) {
  return largest_of_eight(_mm256_max_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1)));
}
// The bits of the largest magnitude; those of NaN are above all others.
inline uint32_t largest_magnitude_bits(F32 a, F32 b) {
  const __m512i mask = _mm512_set1_epi32(0x7fffffff);
  return _mm512_reduce_max_epu32(_mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(a.v), mask),
                                                  _mm512_and_si512(_mm512_castps_si512(b.v), mask)));
}
// The first `count` lanes of a, the others `rest`.
inline F32 keep_first(F32 a, int count, float rest) {
  const __mmask16 mask = count >= 16 ? 0xffff : count <= 0 ? 0 : (1u << count) - 1;
  return {_mm512_mask_blend_ps(mask, _mm512_set1_ps(rest), a.v)};
}

// Four codes of each of sixteen rows.
struct Codes {
  __m512i v;

  static Codes load(const uint8_t* p) { return {_mm512_loadu_si512(p)}; }
};

inline Codes low_nibbles(Codes c) { return {_mm512_and_si512(c.v, _mm512_set1_epi8(0x0f))}; }
inline Codes high_nibbles(Codes c) {
  return {_mm512_and_si512(_mm512_srli_epi16(c.v, 4), _mm512_set1_epi8(0x0f))};
}
template <int left>  // negative to the right
inline __m512i moved(__m512i v) {
  if constexpr (left > 0) return _mm512_slli_epi16(v, left);
  if constexpr (left < 0) return _mm512_srli_epi16(v, -left);
  return v;
}
// `count` bits of each code, from bit `place` on.
template <int count, int place>
inline Codes bits(Codes c) {
  return {_mm512_and_si512(moved<-place>(c.v), _mm512_set1_epi8((1 << count) - 1))};
}
// `low`, and from its bit `above` on `count` bits of `high`, from bit `place` on.
template <int count, int place, int above>
inline Codes with_bits(Codes low, Codes high) {
  // (moved & mask) | low
  const __m512i mask = _mm512_set1_epi8(((1 << count) - 1) << above);
  return {_mm512_ternarylogic_epi32(moved<above - place>(high.v), mask, low.v, 0xea)};
}
// What a table has for each of some nibbles.
inline Codes look_up(const uint8_t (&table)[16], Codes nibbles) {
  const __m512i tables = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
  return {_mm512_shuffle_epi8(tables, nibbles.v)};
}
// The four codes of each row as one number.
inline I32 as_words(Codes c) { return {c.v}; }
// Signed codes as the second operand of `dot` wants them: with `kCodeOffset` added.
inline Codes signed_codes(Codes c) { return {_mm512_xor_si512(c.v, _mm512_set1_epi8(-128))}; }

// Four activations of one token, for all rows.
struct Activations {
  __m512i v;

  static Activations load(const int8_t* p) {
    int32_t four;
    std::memcpy(&four, p, 4);
    return {_mm512_set1_epi32(four)};
  }
};

// sum + the product of each row's four codes and the activations.
inline I32 dot(I32 sum, Codes codes, Activations x) { return {_mm512_dpbusd_epi32(sum.v, codes.v, x.v)}; }
inline I32 dot_signed(I32 sum, Codes codes, Activations x) { return dot(sum, codes, x); }

inline void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }

}  // namespace
