// q4_k: 256 elements in eight parts, d * scale * q - dmin * minimum.
//
// Of 32 bytes the low nibbles are one part, the high ones the next.
#pragma once

#include "scales_and_minimums.h"

namespace native {
namespace {

struct Q4_K {
  static constexpr const char* name = "q4_k";
  static constexpr Encoding encoding{12};
  static constexpr int columns = 256, tile_columns = 256;
  static constexpr int sums_a_token = 1;

  struct Block {
    ScalesAndMinimums factors;
    uint8_t codes[4][32];
  };
  struct Tile {
    ScalesAndMinimumsOfTile factors;
    CodeLine codes[8][4];  // of each part, its elements i and i + 16 in a byte
  };
  static_assert(sizeof(Block) == 144 && sizeof(Tile) == kLanes * sizeof(Block));
  static constexpr int64_t header = offsetof(Tile, codes);

  static void decode(const Block& block, float* values) {
    const float d = value_of(block.factors.d), dmin = value_of(block.factors.dmin);
    for (int i = 0; i < columns; ++i) {
      const int part = i / 32, code = block.codes[part / 2][i % 32] >> (4 * (part % 2)) & 15;
      const float scale = d * static_cast<float>(block.factors.scale(part));
      const float minimum = dmin * static_cast<float>(block.factors.minimum(part));
      values[i] = scale * static_cast<float>(code) - minimum;
    }
  }

  static void pack(const Block& block, int, int lane, Tile& tile) {
    tile.factors.put(block.factors, lane);
    for (int pair = 0; pair < 4; ++pair)
      put_two_parts(block.codes[pair], lane, tile.codes[2 * pair], tile.codes[2 * pair + 1]);
  }

  template <class S>
  static inline NATIVE_INLINED void add(const Tile& tile, Reading reading, const typename S::Tokens& x,
                                        typename S::Sums& sums) {
    tile.factors.add<S>(reading, x, sums, [&](typename S::Dots& dots, int part) NATIVE_INLINED {
      S::add_nibbles(dots, tile.codes[part], reading, x.codes(part));
    });
  }
};

}  // namespace
}  // namespace native
