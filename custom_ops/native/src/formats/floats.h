// Single numbers, which are multiplied where they are: f32, f16, and bf16, the upper half of an f32.
#pragma once

#include "block.h"

namespace native {
namespace {

struct Bfloat {
  uint16_t bits;
};

inline float value_of(float value) { return value; }
inline float value_of(uint16_t half) { return from_half(half); }
inline float value_of(Bfloat upper) { return from_bfloat(upper.bits); }

template <int64_t number, class Element_>
struct Float {
  static constexpr Encoding encoding{number};
  static constexpr int columns = 1;

  using Element = Element_;
  struct Block {
    uint8_t bytes[sizeof(Element)];
  };

  static void decode(const Block& block, float* values) {
    Element element;
    std::memcpy(&element, block.bytes, sizeof element);
    *values = value_of(element);
  }
};

struct Float32 : Float<0, float> {
  static constexpr const char* name = "f32";
};
struct Float16 : Float<1, uint16_t> {
  static constexpr const char* name = "f16";
};
struct Bfloat16 : Float<30, Bfloat> {
  static constexpr const char* name = "bf16";
};

}  // namespace
}  // namespace native
