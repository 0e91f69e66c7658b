// iq4_xs: 256 elements in eight parts of 32, d * (scale - 32) * v, v a value of a table, and a scale of six bits.
//
// Nibble p of `low` and two bits of `high`, from bit 2 * p on, are the scale of part p. Of each part's 16 bytes of
// codes low nibbles are elements 0 to 15.
#pragma once

#include "values_of_nibbles.h"

namespace native {
namespace {

struct IQ4_XS {
  static constexpr const char* name = "iq4_xs";
  static constexpr Encoding encoding{23};
  static constexpr int columns = 256, tile_columns = 256;
  static constexpr int sums_a_token = 1;

  struct Block {
    Half d;
    uint8_t high[2], low[4];
    uint8_t codes[8][16];
  };
  struct Tile {
    Half d[kLanes];
    uint8_t high[2][kLanes];
    CodeLine low;
    CodeLine codes[8][4];
  };
  static_assert(sizeof(Block) == 136 && sizeof(Tile) == kLanes * sizeof(Block));
  static constexpr int64_t header = offsetof(Tile, codes);

  static void decode(const Block& block, float* values) {
    for (int part = 0; part < 8; ++part) {
      const int low = block.low[part / 2] >> (4 * (part % 2)) & 15, high = block.high[part / 4] >> (2 * (part % 4)) & 3;
      const float scale = value_of(block.d) * static_cast<float>((low | high << 4) - 32);
      decode_nibbles(block.codes[part], kNotLinear, scale, values + 32 * part);
    }
  }

  static void pack(const Block& block, int, int lane, Tile& tile) {
    tile.d[lane] = block.d;
    for (int i = 0; i < 2; ++i) tile.high[i][lane] = block.high[i];
    put(block.low, lane, tile.low);
    for (int part = 0; part < 8; ++part)
      for (int j = 0; j < 4; ++j) put(block.codes[part] + 4 * j, lane, tile.codes[part][j]);
  }

  template <class S>
  static inline NATIVE_INLINED void add(const Tile& tile, Reading reading, const typename S::Tokens& x,
                                        typename S::Sums& sums) {
    typename S::F32 d[S::groups];
    typename S::I32 low[S::groups], high[S::groups];  // first the bits of the next part, above them those that follow
    for (int g = 0; g < S::groups; ++g) {
      const int64_t at = g * reading.stride;
      d[g] = S::F32::load_half(tile.d[0].bytes + at);
      low[g] = as_words(S::Codes::load(tile.low + at));
      const auto first = S::I32::load_bytes(tile.high[0] + at) & S::I32::all(255);
      high[g] = S::template shift_left<4>(first) + S::template shift_left<12>(S::I32::load_bytes(tile.high[1] + at));
    }
    for (int part = 0; part < 8; ++part) {
      typename S::Dots dots;
      dot_values<S>(dots, kNotLinear, tile.codes[part], reading, x, part);
      typename S::F32 scale[S::groups];
      for (int g = 0; g < S::groups; ++g) {
        const auto six_bits = (low[g] & S::I32::all(15)) + (high[g] & S::I32::all(48));
        scale[g] = d[g] * to_float(six_bits + S::I32::all(-32));
        low[g] = S::template shift_right<4>(low[g]);
        high[g] = S::template shift_right<2>(high[g]);
      }
      S::add_scaled(sums, dots, scale, x.scales(part));
    }
  }
};

}  // namespace
}  // namespace native
