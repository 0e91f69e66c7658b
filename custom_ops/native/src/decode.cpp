#include "decode.h"

#include <cstring>

#include "half.h"
#include "tiles.h"

namespace native {

namespace {

uint16_t two_bytes(const uint8_t* bytes) {
  uint16_t bits;
  std::memcpy(&bits, bytes, 2);
  return bits;
}

float half(const uint8_t* bytes) { return from_half(two_bytes(bytes)); }

void q4_0(const uint8_t* block, float* values) {
  const float d = half(block);
  for (int i = 0; i < 16; ++i) {
    values[i] = d * static_cast<float>((block[2 + i] & 15) - 8);
    values[i + 16] = d * static_cast<float>((block[2 + i] >> 4) - 8);
  }
}

void q4_1(const uint8_t* block, float* values) {
  const float d = half(block), m = half(block + 2);
  for (int i = 0; i < 16; ++i) {
    values[i] = d * static_cast<float>(block[4 + i] & 15) + m;
    values[i + 16] = d * static_cast<float>(block[4 + i] >> 4) + m;
  }
}

void q8_0(const uint8_t* block, float* values) {
  const float d = half(block);
  for (int i = 0; i < 32; ++i) values[i] = d * static_cast<float>(static_cast<int8_t>(block[2 + i]));
}

void q6_k(const uint8_t* block, float* values) {
  const float d = half(block + 208);
  for (int i = 0; i < 256; ++i) {
    const int in_half = i % 128, quarter = in_half / 32, column = in_half % 32, base = i / 128;
    const int low = block[64 * base + 32 * (quarter % 2) + column] >> (4 * (quarter / 2)) & 15;
    const int high = block[128 + 32 * base + column] >> (2 * quarter) & 3;
    const float scale = d * static_cast<float>(static_cast<int8_t>(block[192 + i / 16]));
    values[i] = scale * static_cast<float>((low | high << 4) - 32);
  }
}

}  // namespace

void decode_row(Encoding encoding, const uint8_t* row, int64_t columns, float* values) {
  if (encoding == Encoding::f32) {
    std::memcpy(values, row, columns * sizeof(float));
    return;
  }
  const int64_t size = block_columns(encoding), bytes = row_bytes(encoding, size);
  for (int64_t i = 0; i < columns; i += size, row += bytes) {
    switch (encoding) {
      case Encoding::f16: values[i] = half(row); break;
      case Encoding::bf16: values[i] = from_bfloat(two_bytes(row)); break;
      case Encoding::q4_0: q4_0(row, values + i); break;
      case Encoding::q4_1: q4_1(row, values + i); break;
      case Encoding::q8_0: q8_0(row, values + i); break;
      default: q6_k(row, values + i); break;
    }
  }
}

}  // namespace native
