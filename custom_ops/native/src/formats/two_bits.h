// Codes of two bits, of which a byte has one of each of four parts of 32 elements, in two halves of such.
#pragma once

#include "block.h"

namespace native {
namespace {

inline int two_bits_at(const uint8_t (&codes)[2][32], int element) {
  return codes[element / 128][element % 32] >> (2 * (element % 128 / 32)) & 3;
}

// One part of a half, on two lines: bits 2 * j and above of byte i of line k are those of element 16 * k + 4 * j + i.
inline void put_two_bits(const uint8_t (&half)[32], int part, int lane, CodeLine (&lines)[2]) {
  for (int k = 0; k < 2; ++k) {
    uint32_t bits = 0;
    for (int j = 0; j < 4; ++j) bits |= (word_at(half + 16 * k + 4 * j) >> (2 * part) & 0x03030303u) << (2 * j);
    put_word(bits, lane, lines[k]);
  }
}

}  // namespace
}  // namespace native
