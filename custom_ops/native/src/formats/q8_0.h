// q8_0: 32 elements d * q, q a signed byte.
#pragma once

#include "block.h"

namespace native {
namespace {

struct Q8_0 {
  static constexpr const char* name = "q8_0";
  static constexpr Encoding encoding{8};
  static constexpr int columns = 32, tile_columns = 64;
  static constexpr int sums_a_token = 1;

  struct Block {
    Half d;
    uint8_t codes[32];
  };
  struct Tile {
    Half d[2][kLanes];
    CodeLine codes[2][8];
  };
  static_assert(sizeof(Block) == 34 && sizeof(Tile) == 2 * kLanes * sizeof(Block));
  static constexpr int64_t header = offsetof(Tile, codes);

  static void decode(const Block& block, float* values) {
    const float d = value_of(block.d);
    for (int i = 0; i < 32; ++i) values[i] = d * static_cast<float>(static_cast<int8_t>(block.codes[i]));
  }

  static void pack(const Block& block, int b, int lane, Tile& tile) {
    tile.d[b][lane] = block.d;
    for (int j = 0; j < 8; ++j) put(block.codes + 4 * j, lane, tile.codes[b][j]);
  }

  template <class S>
  static inline NATIVE_INLINED void add(const Tile& tile, Reading reading, const typename S::Tokens& x, typename S::Sums& sums) {
    for (int b = 0; b < 2; ++b) {
      typename S::Dots dots;
      S::for_each([&](int g, int t) NATIVE_INLINED { dots[g][t] = S::I32::all(x.sums(b)[t] * (S::code_offset / 8)); });
      S::template for_each_line<8>([&](int j) NATIVE_INLINED {
        typename S::Codes codes[S::groups];
        for (int g = 0; g < S::groups; ++g)
          codes[g] = signed_codes(S::load_line(tile.codes[b][j] + g * reading.stride, reading));
        for (int t = 0; t < S::tokens; ++t) {
          const auto four = S::Activations::load(x.codes(b, j) + 4 * t);
          for (int g = 0; g < S::groups; ++g) dots[g][t] = dot_signed(dots[g][t], codes[g], four);
        }
      });
      S::add_scaled(sums, dots, tile.d[b], reading, x.scales(b));
    }
  }
};

}  // namespace
}  // namespace native
