// mxfp4: 32 elements 2^(e - 128) * v, v twice the value of an E2M1 float; low nibbles are elements 0 to 15.
//
// Source: OCP Microscaling Formats (MX) Specification 1.0, of which ggml takes an exponent of 255 for a number.
#pragma once

#include "values_of_nibbles.h"

namespace native {
namespace {

struct MXFP4 {
  static constexpr const char* name = "mxfp4";
  static constexpr Encoding encoding{39};
  static constexpr int columns = 32, tile_columns = 128;
  static constexpr int sums_a_token = 1;
  static constexpr NibbleValues kValues = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

  struct Block {
    uint8_t exponent;
    uint8_t codes[16];
  };
  struct Tile {
    uint8_t exponents[4][kLanes];
    CodeLine codes[4][4];
  };
  static_assert(sizeof(Block) == 17 && sizeof(Tile) == 4 * kLanes * sizeof(Block));
  static_assert(tile_columns <= kPanelColumns);
  static constexpr int64_t header = offsetof(Tile, codes);

  static void decode(const Block& block, float* values) {
    decode_nibbles(block.codes, kValues, std::ldexp(1.0f, block.exponent - 128), values);
  }

  static void pack(const Block& block, int b, int lane, Tile& tile) {
    tile.exponents[b][lane] = block.exponent;
    for (int j = 0; j < 4; ++j) put(block.codes + 4 * j, lane, tile.codes[b][j]);
  }

  template <class S>
  static inline NATIVE_INLINED void add(const Tile& tile, Reading reading, const typename S::Tokens& x,
                                        typename S::Sums& sums) {
    for (int b = 0; b < 4; ++b) {
      typename S::Dots dots;
      dot_values<S>(dots, kValues, tile.codes[b], reading, x, b);
      typename S::F32 scale[S::groups];
      for (int g = 0; g < S::groups; ++g) scale[g] = power_of_two<S>(tile.exponents[b] + g * reading.stride);
      S::add_scaled(sums, dots, scale, x.scales(b));
    }
  }

 private:
  // 2^(e - 128) as half of 2^(e - 127), for which an exponent of 0 is 0, and one of 255 is infinite.
  template <class S>
  static inline NATIVE_INLINED typename S::F32 power_of_two(const uint8_t* exponents) {
    const auto bits = S::template shift_left<23>(S::I32::load_bytes(exponents) & S::I32::all(255));
    return as_float(bits) * S::F32::all(0.5f);
  }
};

}  // namespace
}  // namespace native
