// iq4_nl: 32 elements d * v, v a value of a table; low nibbles are elements 0 to 15.
#pragma once

#include "values_of_nibbles.h"

namespace native {
namespace {

struct IQ4_NL {
  static constexpr const char* name = "iq4_nl";
  static constexpr Encoding encoding{20};
  static constexpr int columns = 32, tile_columns = 64;
  static constexpr int sums_a_token = 1;

  struct Block {
    Half d;
    uint8_t codes[16];
  };
  struct Tile {
    Half d[2][kLanes];
    CodeLine codes[2][4];
  };
  static_assert(sizeof(Block) == 18 && sizeof(Tile) == 2 * kLanes * sizeof(Block));
  static constexpr int64_t header = offsetof(Tile, codes);

  static void decode(const Block& block, float* values) {
    decode_nibbles(block.codes, kNotLinear, value_of(block.d), values);
  }

  static void pack(const Block& block, int b, int lane, Tile& tile) {
    tile.d[b][lane] = block.d;
    for (int j = 0; j < 4; ++j) put(block.codes + 4 * j, lane, tile.codes[b][j]);
  }

  template <class S>
  static inline NATIVE_INLINED void add(const Tile& tile, Reading reading, const typename S::Tokens& x,
                                        typename S::Sums& sums) {
    for (int b = 0; b < 2; ++b) {
      typename S::Dots dots;
      dot_values<S>(dots, kNotLinear, tile.codes[b], reading, x, b);
      S::add_scaled(sums, dots, tile.d[b], reading, x.scales(b));
    }
  }
};

}  // namespace
}  // namespace native
