#include "matrix.h"

#include <stdexcept>
#include <string>

#include "formats.h"
#include "tiles.h"

namespace native {

Matrix::Matrix(Encoding encoding, const uint8_t* data, int64_t rows, int64_t columns)
    : encoding_(encoding),
      data_(data),
      rows_(rows),
      columns_(columns),
      packed_(is_packed(encoding)),
      group_bytes_(packed_ ? tile_group_bytes(encoding, columns) : kLanes * row_bytes(encoding, columns)),
      bytes_(packed_ ? tile_groups(rows) * group_bytes_ : rows * row_bytes(encoding, columns)) {
  const int64_t block = block_columns(encoding);
  if (rows < 1 || columns < 1 || columns % block != 0)
    throw std::invalid_argument("a matrix of " + std::to_string(rows) + " x " + std::to_string(columns) +
                                " is not made of blocks of " + std::to_string(block));
}

}  // namespace native
