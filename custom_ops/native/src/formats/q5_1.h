// q5_1: 32 elements d * q + m; low nibbles are elements 0 to 15, and bit i of `fifths` is the fifth of element i.
#pragma once

#include "fifth_bits.h"

namespace native {
namespace {

struct Q5_1 {
  static constexpr const char* name = "q5_1";
  static constexpr Encoding encoding{7};
  static constexpr int columns = 32, tile_columns = 64;
  static constexpr int sums_a_token = 1;

  struct Block {
    Half d, m;
    uint8_t fifths[4];
    uint8_t codes[16];
  };
  struct Tile {
    Half d[2][kLanes], m[2][kLanes];
    FiveBits codes[2];
  };
  static_assert(sizeof(Block) == 24 && sizeof(Tile) == 2 * kLanes * sizeof(Block));
  static constexpr int64_t header = offsetof(Tile, codes);

  static void decode(const Block& block, float* values) {
    const float d = value_of(block.d), m = value_of(block.m);
    for (int i = 0; i < columns; ++i)
      values[i] = d * static_cast<float>(five_bits_at(block.codes, block.fifths, i)) + m;
  }

  static void pack(const Block& block, int b, int lane, Tile& tile) {
    tile.d[b][lane] = block.d;
    tile.m[b][lane] = block.m;
    put_fives(block.codes, block.fifths, lane, tile.codes[b]);
  }

  template <class S>
  static inline NATIVE_INLINED void add(const Tile& tile, Reading reading, const typename S::Tokens& x,
                                        typename S::Sums& sums) {
    for (int b = 0; b < 2; ++b) {
      typename S::Dots dots;
      S::for_each([&](int g, int t) NATIVE_INLINED { dots[g][t] = S::I32::zero(); });
      add_fives<S>(dots, tile.codes[b], reading, x, b);
      S::add_scaled(sums, dots, tile.d[b], reading, x.scales(b));
      S::add_offsets(sums, tile.m[b], reading, x.totals(b));
    }
  }
};

}  // namespace
}  // namespace native
