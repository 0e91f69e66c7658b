// q5_k: 256 elements in eight parts, d * scale * q - dmin * minimum.
//
// Of 32 bytes the low nibbles are one part, the high ones the next; bit p of byte i of `fifths` is the fifth of element
// i of part p.
#pragma once

#include "fifth_bits.h"
#include "scales_and_minimums.h"

namespace native {
namespace {

struct Q5_K {
  static constexpr const char* name = "q5_k";
  static constexpr Encoding encoding{13};
  static constexpr int columns = 256, tile_columns = 256;
  static constexpr int sums_a_token = 1;

  struct Block {
    ScalesAndMinimums factors;
    uint8_t fifths[32];
    uint8_t codes[4][32];
  };
  struct Tile {
    ScalesAndMinimumsOfTile factors;
    FiveBits codes[8];  // of each part, its elements i and i + 16 in a byte
  };
  static_assert(sizeof(Block) == 176 && sizeof(Tile) == kLanes * sizeof(Block));
  static constexpr int64_t header = offsetof(Tile, codes);

  static void decode(const Block& block, float* values) {
    const float d = value_of(block.factors.d), dmin = value_of(block.factors.dmin);
    for (int i = 0; i < columns; ++i) {
      const int part = i / 32, nibble = block.codes[part / 2][i % 32] >> (4 * (part % 2)) & 15;
      const int code = nibble | (block.fifths[i % 32] >> part & 1) << 4;
      const float scale = d * static_cast<float>(block.factors.scale(part));
      const float minimum = dmin * static_cast<float>(block.factors.minimum(part));
      values[i] = scale * static_cast<float>(code) - minimum;
    }
  }

  static void pack(const Block& block, int, int lane, Tile& tile) {
    tile.factors.put(block.factors, lane);
    for (int part = 0; part < 8; ++part) put_bits(block.fifths, part, lane, tile.codes[part].fifths);
    for (int pair = 0; pair < 4; ++pair)
      put_two_parts(block.codes[pair], lane, tile.codes[2 * pair].nibbles, tile.codes[2 * pair + 1].nibbles);
  }

  template <class S>
  static inline NATIVE_INLINED void add(const Tile& tile, Reading reading, const typename S::Tokens& x,
                                        typename S::Sums& sums) {
    tile.factors.add<S>(reading, x, sums, [&](typename S::Dots& dots, int part) NATIVE_INLINED {
      add_fives<S>(dots, tile.codes[part], reading, x, part);
    });
  }
};

}  // namespace
}  // namespace native
