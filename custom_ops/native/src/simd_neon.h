// Sixteen lanes in fours of NEON registers, with the dot products of Armv8.2.
#pragma once

#include <arm_neon.h>

#include <cstdint>
#include <cstring>

namespace {

constexpr const char* kName = "neon-dotprod";
constexpr bool kManyRegisters = false;
constexpr int kTokens = 4;      // sums that are kept in registers, for as many tokens
constexpr int kGroups = 1;      // groups of rows that share them
constexpr int kCodeOffset = 0;  // all codes are multiplied as signed ones

// Calls `f` with each register's number.
template <class Register, class Function>
inline void fill(Register (&v)[4], const Function& f) {
  for (int i = 0; i < 4; ++i) v[i] = f(i);
}

struct F32 {
  float32x4_t v[4];

  static F32 zero() { return all(0.0f); }
  static F32 all(float x) {
    F32 r;
    fill(r.v, [=](int) { return vdupq_n_f32(x); });
    return r;
  }
  static F32 load(const float* p) {
    F32 r;
    fill(r.v, [=](int i) { return vld1q_f32(p + 4 * i); });
    return r;
  }
  static F32 load_half(const void* p) {
    const auto* halves = static_cast<const uint16_t*>(p);
    F32 r;
    fill(r.v, [=](int i) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(halves + 4 * i))); });
    return r;
  }
  static F32 load_bfloat(const void* p) {
    const auto* bits = static_cast<const uint16_t*>(p);
    F32 r;
    fill(r.v, [=](int i) { return vreinterpretq_f32_u32(vshlq_n_u32(vmovl_u16(vld1_u16(bits + 4 * i)), 16)); });
    return r;
  }
  void store(float* p) const {
    for (int i = 0; i < 4; ++i) vst1q_f32(p + 4 * i, v[i]);
  }
  void store_half(void* p) const {
    auto* halves = static_cast<uint16_t*>(p);
    for (int i = 0; i < 4; ++i) vst1_u16(halves + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(v[i])));
  }
};

template <class Function>
inline F32 each(const Function& f) {
  F32 r;
  fill(r.v, f);
  return r;
}

inline F32 operator+(F32 a, F32 b) {
  return each([&](int i) { return vaddq_f32(a.v[i], b.v[i]); });
}
inline F32 operator-(F32 a, F32 b) {
  return each([&](int i) { return vsubq_f32(a.v[i], b.v[i]); });
}
inline F32 operator*(F32 a, F32 b) {
  return each([&](int i) { return vmulq_f32(a.v[i], b.v[i]); });
}
inline F32 operator/(F32 a, F32 b) {
  return each([&](int i) { return vdivq_f32(a.v[i], b.v[i]); });
}
inline F32 fma(F32 a, F32 b, F32 c) {
  return each([&](int i) { return vfmaq_f32(c.v[i], a.v[i], b.v[i]); });
}
// b where one of the two is not a number; Arm's own instructions would return what is none, or never do.
inline float32x4_t max(float32x4_t a, float32x4_t b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
inline F32 max(F32 a, F32 b) {
  return each([&](int i) { return max(a.v[i], b.v[i]); });
}
inline F32 min(F32 a, F32 b) {
  return each([&](int i) { return vbslq_f32(vcltq_f32(a.v[i], b.v[i]), a.v[i], b.v[i]); });
}
// x where `compared` is above `limit` or not a number, 0 elsewhere.
inline F32 zero_unless_above(F32 x, F32 compared, float limit) {
  const float32x4_t bound = vdupq_n_f32(limit);
  return each([&](int i) {
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(x.v[i]), vcleq_f32(compared.v[i], bound)));
  });
}

struct I32 {
  int32x4_t v[4];

  static I32 zero() { return all(0); }
  static I32 all(int32_t x) {
    I32 r;
    fill(r.v, [=](int) { return vdupq_n_s32(x); });
    return r;
  }
  // Sixteen signed bytes.
  static I32 load_bytes(const void* p) {
    const int8x16_t bytes = vld1q_s8(static_cast<const int8_t*>(p));
    const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_s8(vget_high_s8(bytes));
    return {{vmovl_s16(vget_low_s16(low)), vmovl_s16(vget_high_s16(low)), vmovl_s16(vget_low_s16(high)),
             vmovl_s16(vget_high_s16(high))}};
  }
  // To sixteen signed bytes, saturating.
  void store_bytes(int8_t* p) const {
    const int16x8_t low = vcombine_s16(vqmovn_s32(v[0]), vqmovn_s32(v[1]));
    const int16x8_t high = vcombine_s16(vqmovn_s32(v[2]), vqmovn_s32(v[3]));
    vst1q_s8(p, vcombine_s8(vqmovn_s16(low), vqmovn_s16(high)));
  }
};

template <class Function>
inline I32 each_integer(const Function& f) {
  I32 r;
  fill(r.v, f);
  return r;
}

inline I32 operator+(I32 a, I32 b) {
  return each_integer([&](int i) { return vaddq_s32(a.v[i], b.v[i]); });
}
inline I32 operator&(I32 a, I32 b) {
  return each_integer([&](int i) { return vandq_s32(a.v[i], b.v[i]); });
}
inline I32 operator*(I32 a, I32 b) {
  return each_integer([&](int i) { return vmulq_s32(a.v[i], b.v[i]); });
}
template <int bits>
inline I32 shift_left(I32 a) {
  return each_integer([&](int i) { return vshlq_n_s32(a.v[i], bits); });
}
template <int bits>
inline I32 shift_right(I32 a) {
  return each_integer([&](int i) { return vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(a.v[i]), bits)); });
}
inline F32 to_float(I32 a) {
  return each([&](int i) { return vcvtq_f32_s32(a.v[i]); });
}
inline int32_t sum(I32 a) {
  return vaddvq_s32(vaddq_s32(vaddq_s32(a.v[0], a.v[1]), vaddq_s32(a.v[2], a.v[3])));
}
// To the nearest integer, to even if there are two; the smallest for what is none.
inline I32 round(F32 a) {
  const float32x4_t limit = vdupq_n_f32(2147483648.0f);
  const int32x4_t none = vdupq_n_s32(INT32_MIN);
  return each_integer(
      [&](int i) { return vbslq_s32(vcaltq_f32(a.v[i], limit), vcvtnq_s32_f32(a.v[i]), none); });
}
inline F32 as_float(I32 a) {
  return each([&](int i) { return vreinterpretq_f32_s32(a.v[i]); });
}

// Halves, then halves of those: the order of all instruction sets.
inline float sum(F32 a) {
  const float32x4_t four = vaddq_f32(vaddq_f32(a.v[0], a.v[2]), vaddq_f32(a.v[1], a.v[3]));
  return vpadds_f32(vadd_f32(vget_low_f32(four), vget_high_f32(four)));
}
inline float largest(F32 a) {
  const float32x4_t four = max(max(a.v[0], a.v[2]), max(a.v[1], a.v[3]));
  const float32x4_t two = max(four, vextq_f32(four, four, 2));
  return vgetq_lane_f32(max(two, vextq_f32(two, two, 1)), 0);
}
// The bits of the largest magnitude; those of NaN are above all others.
inline uint32_t largest_magnitude_bits(F32 a, F32 b) {
  uint32x4_t most = vdupq_n_u32(0);
  for (int i = 0; i < 4; ++i) {
    most = vmaxq_u32(most, vreinterpretq_u32_f32(vabsq_f32(a.v[i])));
    most = vmaxq_u32(most, vreinterpretq_u32_f32(vabsq_f32(b.v[i])));
  }
  return vmaxvq_u32(most);
}
// The first `count` lanes of a, the others `rest`.
inline F32 keep_first(F32 a, int count, float rest) {
  const int32_t lanes[4] = {0, 1, 2, 3};
  const int32x4_t lane = vld1q_s32(lanes);
  const float32x4_t other = vdupq_n_f32(rest);
  return each([&](int i) { return vbslq_f32(vcltq_s32(lane, vdupq_n_s32(count - 4 * i)), a.v[i], other); });
}

// Four codes of each of sixteen rows.
struct Codes {
  uint8x16_t v[4];

  static Codes load(const uint8_t* p) {
    Codes r;
    fill(r.v, [=](int i) { return vld1q_u8(p + 16 * i); });
    return r;
  }
};

inline Codes low_nibbles(Codes c) {
  fill(c.v, [&](int i) { return vandq_u8(c.v[i], vdupq_n_u8(15)); });
  return c;
}
inline Codes high_nibbles(Codes c) {
  fill(c.v, [&](int i) { return vshrq_n_u8(c.v[i], 4); });
  return c;
}
template <int left>  // negative to the right
inline uint8x16_t moved(uint8x16_t v) {
  if constexpr (left > 0) return vshlq_n_u8(v, left);
  else if constexpr (left < 0) return vshrq_n_u8(v, -left);
  else return v;
}
// `count` bits of each code, from bit `place` on.
template <int count, int place>
inline Codes bits(Codes c) {
  fill(c.v, [&](int i) { return vandq_u8(moved<-place>(c.v[i]), vdupq_n_u8((1 << count) - 1)); });
  return c;
}
// `low`, and from its bit `above` on `count` bits of `high`, from bit `place` on.
template <int count, int place, int above>
inline Codes with_bits(Codes low, Codes high) {
  const uint8x16_t mask = vdupq_n_u8(((1 << count) - 1) << above);
  fill(low.v, [&](int i) { return vorrq_u8(low.v[i], vandq_u8(moved<above - place>(high.v[i]), mask)); });
  return low;
}
// What a table has for each of some nibbles.
inline Codes look_up(const uint8_t (&table)[16], Codes nibbles) {
  const uint8x16_t values = vld1q_u8(table);
  fill(nibbles.v, [&](int i) { return vqtbl1q_u8(values, nibbles.v[i]); });
  return nibbles;
}
// The four codes of each row as one number.
inline I32 as_words(Codes c) {
  return each_integer([&](int i) { return vreinterpretq_s32_u8(c.v[i]); });
}
inline Codes signed_codes(Codes c) { return c; }

// Four activations of one token, for all rows.
struct Activations {
  int8x16_t v;

  static Activations load(const int8_t* p) {
    int32_t four;
    std::memcpy(&four, p, 4);
    return {vreinterpretq_s8_s32(vdupq_n_s32(four))};
  }
};

// sum + the product of each row's four codes and the activations.
inline I32 dot_signed(I32 sum, Codes codes, Activations x) {
  return each_integer([&](int i) { return vdotq_s32(sum.v[i], vreinterpretq_s8_u8(codes.v[i]), x.v); });
}
inline I32 dot(I32 sum, Codes codes, Activations x) { return dot_signed(sum, codes, x); }

inline void prefetch(const void* p) { __builtin_prefetch(p); }

}  // namespace
