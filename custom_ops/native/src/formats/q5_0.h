// q5_0: 32 elements d * (q - 16); low nibbles are elements 0 to 15, and bit i of `high` is the fifth of element i.
#pragma once

#include "block.h"

namespace native {
namespace {

struct Q5_0 {
  static constexpr const char* name = "q5_0";
  static constexpr Encoding encoding{6};
  static constexpr int columns = 32, tile_columns = 64;
  static constexpr int sums_a_token = 1;

  struct Block {
    Half d;
    uint8_t high[4];
    uint8_t codes[16];
  };
  // In byte i of a row's four bytes of `high`, bit j belongs to the low nibble of byte i of line j, and bit 4 + j to the
  // high one.
  struct Tile {
    Half d[2][kLanes];
    CodeLine high[2];
    CodeLine codes[2][4];
  };
  static_assert(sizeof(Block) == 22 && sizeof(Tile) == 2 * kLanes * sizeof(Block));
  static constexpr int64_t header = offsetof(Tile, codes);

  static int high_bit(const Block& block, int element) { return block.high[element / 8] >> (element % 8) & 1; }

  static void decode(const Block& block, float* values) {
    const float d = value_of(block.d);
    for (int i = 0; i < 16; ++i) {
      values[i] = d * static_cast<float>(((block.codes[i] & 15) | high_bit(block, i) << 4) - 16);
      values[i + 16] = d * static_cast<float>(((block.codes[i] >> 4) | high_bit(block, i + 16) << 4) - 16);
    }
  }

  static void pack(const Block& block, int b, int lane, Tile& tile) {
    tile.d[b][lane] = block.d;
    uint8_t high[4] = {};
    for (int i = 0; i < 16; ++i)
      high[i % 4] |= high_bit(block, i) << (i / 4) | high_bit(block, i + 16) << (4 + i / 4);
    put(high, lane, tile.high[b]);
    for (int j = 0; j < 4; ++j) put(block.codes + 4 * j, lane, tile.codes[b][j]);
  }

  template <class S>
  static inline NATIVE_INLINED void add(const Tile& tile, Reading reading, const typename S::Tokens& x,
                                        typename S::Sums& sums) {
    for (int b = 0; b < 2; ++b) {
      typename S::Dots dots;
      S::for_each([&](int g, int t) NATIVE_INLINED { dots[g][t] = S::I32::all(x.sums(b)[t] * 2); });
      typename S::Codes high[S::groups];
      for (int g = 0; g < S::groups; ++g) high[g] = S::Codes::load(tile.high[b] + g * reading.stride);
      unrolled<4>([&](auto line_number) NATIVE_INLINED {
        constexpr int j = line_number.value;
        typename S::Codes lower[S::groups], upper[S::groups];
        for (int g = 0; g < S::groups; ++g) {
          const auto line = S::load_line(tile.codes[b][j] + g * reading.stride, reading);
          lower[g] = S::template with_bits<1, j>(low_nibbles(line), high[g]);
          upper[g] = S::template with_bits<1, j + 4>(high_nibbles(line), high[g]);
        }
        S::add_line(dots, lower, x.codes(b, j));
        S::add_line(dots, upper, x.codes(b, j + 4));
      });
      S::add_scaled(sums, dots, tile.d[b], reading, x.scales(b));
    }
  }
};

}  // namespace
}  // namespace native
