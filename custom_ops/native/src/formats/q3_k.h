// q3_k: 256 elements d * (scale - 32) * (q - 4), with a scale of six bits for 16 elements.
//
// Codes have two bits as in q2_k, and bit p of byte i of `thirds` is the third of element i of part p. Of the twelve bytes
// of scales the first eight have lower four bits, those of the scales 0 to 7 in low nibbles, of the others in high
// ones; bits 2 * j and above of byte 8 + i are the upper two of scale 4 * j + i.
#pragma once

#include "fifth_bits.h"
#include "two_bits.h"

namespace native {
namespace {

struct Q3_K {
  static constexpr const char* name = "q3_k";
  static constexpr Encoding encoding{11};
  static constexpr int columns = 256, tile_columns = 256;
  static constexpr int sums_a_token = 2;

  struct Block {
    uint8_t thirds[32];
    uint8_t codes[2][32];
    uint8_t scales[12];
    Half d;
  };
  struct Tile {
    Half d[kLanes];
    uint8_t unused[32];  // so that lines are lines of the cache; 2 % of the tile
    CodeLine scales[3];
    struct {
      CodeLine thirds, codes[2];
    } parts[8];
  };
  static_assert(sizeof(Block) == 110 && sizeof(Tile) == kLanes * sizeof(Block) + sizeof(Tile::unused));
  static constexpr int64_t header = offsetof(Tile, parts);

  static void decode(const Block& block, float* values) {
    const float d = value_of(block.d);
    for (int i = 0; i < columns; ++i) {
      const int scale = i / 16, part = i / 32;
      const int low = block.scales[scale % 8] >> (4 * (scale / 8)) & 15;
      const int high = block.scales[8 + scale % 4] >> (2 * (scale / 4)) & 3;
      const int code = two_bits_at(block.codes, i) | (block.thirds[i % 32] >> part & 1) << 2;
      values[i] = d * static_cast<float>((low | high << 4) - 32) * static_cast<float>(code - 4);
    }
  }

  static void pack(const Block& block, int, int lane, Tile& tile) {
    tile.d[lane] = block.d;
    for (int i = 0; i < 3; ++i) put(block.scales + 4 * i, lane, tile.scales[i]);
    for (int part = 0; part < 8; ++part) {
      put_bits(block.thirds, part, lane, tile.parts[part].thirds);
      put_two_bits(block.codes[part / 4], part % 4, lane, tile.parts[part].codes);
    }
  }

  template <class S>
  static inline NATIVE_INLINED void add(const Tile& tile, Reading reading, const typename S::Tokens& x,
                                        typename S::Sums& sums) {
    static_assert(S::groups == 1);
    const auto d = S::F32::load_half(tile.d);
    for (int part = 0; part < 8; ++part) {
      typename S::I32 scaled[S::tokens];
      const auto thirds = S::load_line(tile.parts[part].thirds, reading);
      unrolled<2>([&](auto half_number) NATIVE_INLINED {
        constexpr int half = half_number.value;
        typename S::Dots dots;
        // The sums are times -32.
        S::for_each([&](int g, int t) NATIVE_INLINED { dots[g][t] = S::I32::all(x.sums_16(part, half)[t] / 8); });
        const auto line = S::load_line(tile.parts[part].codes[half], reading);
        unrolled<4>([&](auto number) NATIVE_INLINED {
          constexpr int j = number.value;
          const typename S::Codes codes[1] = {
              S::template with_bits<1, 4 * half + j, 2>(S::template bits<2, 2 * j>(line), thirds)};
          S::add_line(dots, codes, x.codes(part, 4 * half + j));
        });
        const auto scale = scale_of<S>(tile, 2 * part + half);
        for (int t = 0; t < S::tokens; ++t) {
          const auto product = dots[0][t] * scale;
          scaled[t] = half == 0 ? product : scaled[t] + product;
        }
      });
      for (int t = 0; t < S::tokens; ++t)
        sums[0][t] = fma(to_float(scaled[t]), d * S::F32::all(x.scales(part)[t]), sums[0][t]);
    }
  }

 private:
  template <class S>
  static inline NATIVE_INLINED typename S::I32 scale_of(const Tile& tile, int number) {
    const auto low = as_words(S::Codes::load(tile.scales[number % 8 / 4])), high = as_words(S::Codes::load(tile.scales[2]));
    const int byte = 8 * (number % 4);
    const auto upper = S::template shift_left<4>(S::template field<2>(high, byte + 2 * (number / 4)));
    return S::template field<4>(low, byte + 4 * (number / 8)) + upper + S::I32::all(-32);
  }
};

}  // namespace
}  // namespace native
