/* The kernel of one tile. `tiles.py` writes the file that includes this one, once for each tile:
 *
 *   AS_NAME          the kernel's
 *   AS_ELEMENT       AS_FP16, AS_BF16 or AS_UINT8: what the tensor cores multiply
 *   AS_ELEMENT_BYTES of one activation there
 *   AS_SUM, AS_REAL  type of the sums, and what makes a real number of one
 *   AS_MMA           the tensor cores' function
 *   AS_TWO_OF_FOUR   1 where two of every four weights are stored
 *   AS_BLOCKS        1 where rows of blocks have lists of the steps that are there
 *   AS_PAIRED        1 where two steps share a word of metadata
 *   AS_OUTPUTS       fragments of 16 outputs in a tile
 *   AS_TOKENS        fragments of 8 tokens of a warp
 *   AS_WARPS_TOKENS  warps that share the weights and have tokens of their own
 *   AS_WARPS_DEPTH   warps that share the tokens and have a part of the depth each
 *   AS_RUN           steps of a warp at a time
 *   AS_STAGES        chunks of activations that are under way or in use
 *
 * A chunk is what all warps do at a time. Its activations are copied to shared memory some chunks
 * ahead; weights go from memory to the registers that the tensor cores read, one chunk ahead:
 * they are packed in that order, and nothing else in the block reads the same ones but the warps
 * beside, out of the cache. */
#define AS_JOIN_(a, b) a##_##b
#define AS_JOIN(a, b) AS_JOIN_(a, b)
#define AS_OWN(part) AS_JOIN(AS_NAME, part)
#define AS_THREADS (32 * AS_WARPS_TOKENS * AS_WARPS_DEPTH)
#define AS_CHUNK (AS_WARPS_DEPTH * AS_RUN)
#define AS_TILE_TOKENS (8 * AS_TOKENS * AS_WARPS_TOKENS)
#define AS_TILE_OUTPUTS (16 * AS_OUTPUTS)
#define AS_STEP_ELEMENTS (AS_STEP_BYTES / AS_ELEMENT_BYTES)
#define AS_WEIGHTS (AS_TWO_OF_FOUR ? 4 : 8) /* registers of a fragment's step */
#define AS_PIECES (AS_CHUNK * AS_STEP_BYTES / 16) /* of a token's part of a chunk */
#define AS_PITCH (AS_CHUNK * AS_STEP_BYTES + 16) /* 16 more: the 8 rows of a matrix in all banks */
#define AS_SUM_PITCH (AS_TILE_OUTPUTS + 4)

typedef struct {
  int first; /* of `kept`, where there are lists */
  int count; /* steps of the depth that this tile has weights for */
  int lane, warp_tokens, warp_depth;
  int64_t fragment[AS_OUTPUTS]; /* where the fragments of each 16 outputs begin */
} AS_OWN(Span);

typedef struct {
  uint32_t values[AS_RUN][AS_OUTPUTS][AS_WEIGHTS];
  uint32_t metadata[AS_RUN][AS_OUTPUTS];
} AS_OWN(Weights);

AS_DEVICE void AS_OWN(begin)(AS_OWN(Span) *span, const AsLinear *p) {
  const int tile = as_block_y(), last = (p->outputs - 1) / 16, warp = as_thread() / 32;
  span->lane = as_thread() % 32;
  span->warp_depth = warp % AS_WARPS_DEPTH;
  span->warp_tokens = warp / AS_WARPS_DEPTH;
  span->first = AS_BLOCKS ? p->starts[tile] : 0;
  span->count = AS_BLOCKS ? p->starts[tile + 1] - span->first : p->steps;
  AS_UNROLL
  for (int f = 0; f < AS_OUTPUTS; f++) {
    const int sixteen = tile * AS_OUTPUTS + f;
    if (AS_BLOCKS) {
      span->fragment[f] = (int64_t)span->first * AS_OUTPUTS + (int64_t)f * span->count;
    } else { /* beyond the last one it is read again, and not written */
      span->fragment[f] = (int64_t)(sixteen < last ? sixteen : last) * p->steps;
    }
  }
}

AS_DEVICE void AS_OWN(clear)(AS_SUM sums[AS_OUTPUTS][AS_TOKENS][4]) {
  AS_UNROLL
  for (int f = 0; f < AS_OUTPUTS; f++) {
    AS_UNROLL
    for (int j = 0; j < AS_TOKENS; j++) {
      sums[f][j][0] = sums[f][j][1] = sums[f][j][2] = sums[f][j][3] = 0;
    }
  }
}

/* The step of a chunk that a warp does as its `slot`th; it may lie behind the last one. */
AS_DEVICE int AS_OWN(position)(const AS_OWN(Span) *span, int chunk, int slot) {
  return chunk * AS_CHUNK + span->warp_depth * AS_RUN + slot;
}

typedef struct {
  unsigned char *to; /* 16 bytes of shared memory */
  int element;       /* the first one of a token there; none from `depth` on */
  int64_t index;     /* the same within all activations */
} AS_OWN(Piece);

/* What a thread copies of a chunk in one of its turns. */
AS_DEVICE AS_OWN(Piece) AS_OWN(piece)(const AsLinear *p, const AS_OWN(Span) *span,
                                      unsigned char *stage, int chunk, int64_t token, int turn) {
  AS_OWN(Piece) piece;
  const int number = turn * AS_THREADS + as_thread();
  const int row = number / AS_PIECES, at = number % AS_PIECES;
  const int position = chunk * AS_CHUNK + at / 4;
  piece.to = stage + row * AS_PITCH + at * 16;
  piece.element = p->depth;
  if (position < span->count && token + row < p->rows) {
    const int step = AS_BLOCKS ? p->kept[span->first + position] : position;
    piece.element = step * AS_STEP_ELEMENTS + at % 4 * (16 / AS_ELEMENT_BYTES);
  }
  piece.index = (token + row) * p->depth + piece.element;
  return piece;
}

AS_DEVICE void AS_OWN(convert)(const AsLinear *p, AS_OWN(Piece) piece) {
  uint32_t words[4] = {0, 0, 0, 0};
  AS_UNROLL
  for (int i = 0; i < 16 / AS_ELEMENT_BYTES; i++) {
    if (piece.element + i >= p->depth) continue;
    words[i * AS_ELEMENT_BYTES / 4] |= as_element(p, piece.index + i, AS_ELEMENT)
                                       << (i * AS_ELEMENT_BYTES % 4 * 8);
  }
  as_store16(piece.to, words);
}

/* Copy the activations of a chunk to shared memory, zeros where there are none. They get there
 * some time later; at once where they must be converted, or are not aligned. */
AS_DEVICE void AS_OWN(stage)(const AsLinear *p, const AS_OWN(Span) *span, unsigned char *stage,
                             int chunk, int64_t token) {
  const int turns = AS_TILE_TOKENS * AS_PIECES / AS_THREADS;
  const uint64_t places = (uint64_t)(uintptr_t)p->input | (uint64_t)p->depth * AS_ELEMENT_BYTES;
  if (p->input_type != AS_ELEMENT || places % 16) {
    AS_ROLLED
    for (int turn = 0; turn < turns; turn++) {
      AS_OWN(convert)(p, AS_OWN(piece)(p, span, stage, chunk, token, turn));
    }
    return;
  }
  AS_UNROLL_4
  for (int turn = 0; turn < turns; turn++) {
    const AS_OWN(Piece) piece = AS_OWN(piece)(p, span, stage, chunk, token, turn);
    const int there = piece.element < p->depth;
    const int64_t offset = there ? piece.index * AS_ELEMENT_BYTES : 0;
    as_copy16(piece.to, (const char *)p->input + offset, there ? 16 : 0);
  }
}

/* Load the weights of a slot, and its metadata once nothing of the former chunk needs the word. */
AS_DEVICE void AS_OWN(fetch)(const AsLinear *p, const AS_OWN(Span) *span, AS_OWN(Weights) *to,
                             int chunk, int slot) {
  const int position = AS_OWN(position)(span, chunk, slot);
  if (position >= span->count) return;
  AS_UNROLL
  for (int f = 0; f < AS_OUTPUTS; f++) {
    const int64_t at = (span->fragment[f] + position) * (AS_WEIGHTS / 4);
    AS_UNROLL
    for (int i = 0; i < AS_WEIGHTS / 4; i++) {
      as_load16(&to->values[slot][f][4 * i], p->values + ((at + i) * 32 + span->lane) * 4);
    }
    if (AS_TWO_OF_FOUR && (slot & AS_PAIRED) == AS_PAIRED) {
      const int64_t word = (span->fragment[f] + position) >> AS_PAIRED;
      to->metadata[slot >> AS_PAIRED][f] = as_load4(p->metadata + word * 32 + span->lane);
    }
  }
}

AS_DEVICE void AS_OWN(multiply)(AS_SUM sums[AS_OUTPUTS][AS_TOKENS][4], const AS_OWN(Span) *span,
                                const AS_OWN(Weights) *weights, const unsigned char *stage,
                                int chunk, int slot) {
  if (AS_OWN(position)(span, chunk, slot) >= span->count) return;
  const int lane = span->lane;
  const unsigned char *const row = stage +
      (span->warp_tokens * 8 * AS_TOKENS + lane % 8) * AS_PITCH +
      (span->warp_depth * AS_RUN + slot) * AS_STEP_BYTES + lane / 8 * 16;
  AS_UNROLL
  for (int j = 0; j < AS_TOKENS; j++) {
    uint32_t activations[4];
    as_load_matrices(activations, row + j * 8 * AS_PITCH);
    AS_UNROLL
    for (int f = 0; f < AS_OUTPUTS; f++) {
#if AS_TWO_OF_FOUR
      AS_MMA(sums[f][j], weights->values[slot][f], activations,
             weights->metadata[slot >> AS_PAIRED][f], slot & AS_PAIRED);
#else
      AS_MMA(sums[f][j], weights->values[slot][f], activations);
      AS_MMA(sums[f][j], weights->values[slot][f] + 4, activations + 2);
#endif
    }
  }
}

/* Sums lie with the lanes as the tensor cores leave them: put them in order in shared memory, add
 * up those of the warps that shared the depth, and write outputs side by side. */
AS_DEVICE void AS_OWN(end)(const AsLinear *p, const AS_OWN(Span) *span, AS_SUM *shared,
                           AS_SUM sums[AS_OUTPUTS][AS_TOKENS][4], int64_t token) {
  const int lane = span->lane;
  const int own = span->warp_depth * AS_TILE_TOKENS + span->warp_tokens * 8 * AS_TOKENS;
  AS_UNROLL
  for (int f = 0; f < AS_OUTPUTS; f++) {
    AS_UNROLL
    for (int j = 0; j < AS_TOKENS; j++) {
      AS_UNROLL
      for (int i = 0; i < 4; i++) {
        const int column = own + 8 * j + lane % 4 * 2 + i % 2;
        shared[column * AS_SUM_PITCH + 16 * f + lane / 4 + i / 2 * 8] = sums[f][j][i];
      }
    }
  }
  as_barrier();
  for (int at = as_thread(); at < AS_TILE_TOKENS * AS_TILE_OUTPUTS; at += AS_THREADS) {
    const int column = at / AS_TILE_OUTPUTS, line = at % AS_TILE_OUTPUTS;
    const int output = as_block_y() * AS_TILE_OUTPUTS + line;
    if (token + column >= p->rows || output >= p->outputs) continue;
    AS_SUM sum = 0;
    AS_UNROLL
    for (int part = 0; part < AS_WARPS_DEPTH; part++) {
      sum += shared[(part * AS_TILE_TOKENS + column) * AS_SUM_PITCH + line];
    }
    as_finish(p, token + column, output, AS_REAL(p, output, sum));
  }
}

AS_KERNEL(AS_NAME, AS_THREADS) {
  AS_SHARED(shared);
  AS_OWN(Span) span;
  AS_OWN(Weights) weights;
  AS_SUM sums[AS_OUTPUTS][AS_TOKENS][4];
  const int64_t token = (int64_t)as_block_x() * AS_TILE_TOKENS;
  const int stage_bytes = AS_TILE_TOKENS * AS_PITCH;
  AS_OWN(begin)(&span, &p);
  const int chunks = (span.count + AS_CHUNK - 1) / AS_CHUNK;
  AS_OWN(clear)(sums);
  AS_ROLLED
  for (int chunk = 0; chunk < AS_STAGES - 1; chunk++) {
    if (chunk < chunks) AS_OWN(stage)(&p, &span, shared + chunk * stage_bytes, chunk, token);
    as_commit_copies(); /* an empty group too: as many are under way in every turn */
  }
  AS_UNROLL
  for (int slot = 0; slot < AS_RUN; slot++) AS_OWN(fetch)(&p, &span, &weights, 0, slot);
  for (int chunk = 0; chunk < chunks; chunk++) {
    as_wait_copies(AS_STAGES - 2);
    as_barrier(); /* this chunk is there for all, and the one before is done with */
    const int ahead = chunk + AS_STAGES - 1;
    if (ahead < chunks) {
      AS_OWN(stage)(&p, &span, shared + ahead % AS_STAGES * stage_bytes, ahead, token);
    }
    as_commit_copies();
    const unsigned char *const stage = shared + chunk % AS_STAGES * stage_bytes;
    AS_UNROLL
    for (int slot = 0; slot < AS_RUN; slot++) {
      AS_OWN(multiply)(sums, &span, &weights, stage, chunk, slot);
      AS_OWN(fetch)(&p, &span, &weights, chunk + 1, slot);
    }
  }
  as_barrier(); /* activations are no longer read */
  AS_OWN(end)(&p, &span, (AS_SUM *)(void *)shared, sums, token);
}

#undef AS_JOIN_
#undef AS_JOIN
#undef AS_OWN
#undef AS_THREADS
#undef AS_CHUNK
#undef AS_TILE_TOKENS
#undef AS_TILE_OUTPUTS
#undef AS_STEP_ELEMENTS
#undef AS_WEIGHTS
#undef AS_PIECES
#undef AS_PITCH
#undef AS_SUM_PITCH
