/* Products with weights of 8 and 4 bits for processors with AVX-512 VNNI; `low_bit_kernel.py` says what for.

   Weights are unsigned numbers with an offset (128 or 8), 16 rows side by side: a vector holds 4 neighbouring
   columns of each of the 16 rows, which is what one instruction multiplies and adds. Of 4-bit weights a vector
   holds 8 columns, the first 4 in the lower halves of its bytes. Activations are signed numbers of 8 bits with
   a scale for each group of 128 columns; scales of weights are bfloat16. */

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ROWS 16
#define GROUP 128
#define TOKENS 12

static float wide(uint16_t bits) {
    uint32_t moved = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &moved, 4);
    return value;
}

static uint16_t narrow(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    if (value != value) return 0x7fc0;
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

static __m512 wide_scales(const uint16_t *scales) {
    const __m256i halves = _mm256_loadu_si256((const __m256i *)scales);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

/* The largest magnitude, or something not finite if one of the values is. */
static float largest_of(const float *values) {
    __m512i largest = _mm512_setzero_si512();
    for (int i = 0; i < GROUP; i += 16) {
        const __m512i bits = _mm512_castps_si512(_mm512_loadu_ps(values + i));
        largest = _mm512_max_epi32(largest, _mm512_and_si512(bits, _mm512_set1_epi32(0x7fffffff)));
    }
    const int32_t bits = _mm512_reduce_max_epi32(largest); /* in the order of the numbers, NaN above infinity */
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

/* Rounds x [tokens, columns], bfloat16 or float32, to q [tokens, groups * 128] with scales and sums of q.
   A group with a value that is not finite gets the scale NaN, so that all its products are NaN. */
static void quantize(const void *x, int is_half, int8_t *q, float *scales, int32_t *sums, long tokens, long columns,
                     int threads) {
    const long groups = (columns + GROUP - 1) / GROUP;
#pragma omp parallel for schedule(static) num_threads(threads) if (tokens > 4)
    for (long t = 0; t < tokens; t++)
        for (long g = 0; g < groups; g++) {
            float values[GROUP] = {0};
            const long place = t * columns + g * GROUP, left = columns - g * GROUP, count = left < GROUP ? left : GROUP;
            for (long i = 0; i < count; i++)
                values[i] = is_half ? wide(((const uint16_t *)x)[place + i]) : ((const float *)x)[place + i];
            const float largest = largest_of(values);
            const int can_round = largest > 1e-35f && isfinite(largest); /* 127 / 1e-38 would be infinite */
            const __m512 inverse = _mm512_set1_ps(can_round ? 127 / largest : 0);
            __m512i sum = _mm512_setzero_si512();
            for (long i = 0; i < GROUP; i += 16) {
                const __m512 value = can_round ? _mm512_loadu_ps(values + i) : _mm512_setzero_ps();
                const __m512i rounded = _mm512_cvtps_epi32(_mm512_mul_ps(value, inverse));
                sum = _mm512_add_epi32(sum, rounded);
                _mm_storeu_si128((__m128i *)(q + (t * groups + g) * GROUP + i), _mm512_cvtepi32_epi8(rounded));
            }
            scales[t * groups + g] = isfinite(largest) ? largest / 127 : NAN;
            sums[t * groups + g] = _mm512_reduce_add_epi32(sum);
        }
}

#define MULTIPLY(NAME, COUNT, BITS)                                                                            \
    static void NAME(const int8_t *q, const float *scales, const int32_t *sums, const uint8_t *w,              \
                     const uint16_t *w_scales, long scale_step, long groups, __m512 *out) {                    \
        const __m512i low = _mm512_set1_epi8(15);                                                              \
        __m512 total[COUNT];                                                                                   \
        for (int t = 0; t < COUNT; t++) total[t] = _mm512_setzero_ps();                                        \
        for (long g = 0; g < groups; g++) {                                                                    \
            __m512i sum[COUNT];                                                                                \
            for (int t = 0; t < COUNT; t++)                                                                    \
                sum[t] = _mm512_set1_epi32(-(BITS == 8 ? 128 : 8) * sums[t * groups + g]);                     \
            const int8_t *x = q + g * GROUP;                                                                   \
            for (int i = 0; i < GROUP * BITS / 32; i++, w += 64) {                                             \
                _mm_prefetch((const char *)w + 2048, _MM_HINT_T0);                                             \
                const __m512i both = _mm512_loadu_si512(w);                                                    \
                const __m512i first = BITS == 8 ? both : _mm512_and_si512(both, low);                          \
                const int8_t *here = x + i * (32 / BITS);                                                      \
                for (int t = 0; t < COUNT; t++)                                                                \
                    sum[t] = _mm512_dpbusd_epi32(                                                              \
                        sum[t], first, _mm512_set1_epi32(*(const int32_t *)(here + t * groups * GROUP)));      \
                if (BITS == 4) {                                                                               \
                    const __m512i second = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);                  \
                    for (int t = 0; t < COUNT; t++)                                                            \
                        sum[t] = _mm512_dpbusd_epi32(                                                          \
                            sum[t], second, _mm512_set1_epi32(*(const int32_t *)(here + 4 + t * groups * GROUP))); \
                }                                                                                              \
            }                                                                                                  \
            const __m512 scale = wide_scales(w_scales + g * scale_step);                                       \
            for (int t = 0; t < COUNT; t++)                                                                    \
                total[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[t]),                                         \
                                           _mm512_mul_ps(scale, _mm512_set1_ps(scales[t * groups + g])),       \
                                           total[t]);                                                          \
        }                                                                                                      \
        for (int t = 0; t < COUNT; t++) out[t] = total[t];                                                     \
    }

MULTIPLY(one_8, 1, 8)
MULTIPLY(some_8, 4, 8)
MULTIPLY(many_8, TOKENS, 8)
MULTIPLY(one_4, 1, 4)
MULTIPLY(some_4, 4, 4)
MULTIPLY(many_4, TOKENS, 4)

/* y [tokens, rows] = x [tokens, columns] times weights [rows / 16] of `bits`, whose scales are
   [rows / 16, groups or 1, 16] in bfloat16; x and y are bfloat16 or float32. A token's result does not depend on
   the others. Gives 0, or 1 if there is no memory. */
int multiply(const void *x, int is_half, const uint8_t *w, const uint16_t *w_scales, int bits, void *y, long tokens,
             long rows, long columns, int threads) {
    const long groups = (columns + GROUP - 1) / GROUP, rounded = tokens * groups;
    if (rounded == 0) return 0;
    char *scratch = aligned_alloc(64, (rounded * (GROUP + 8) + 63) / 64 * 64);
    if (!scratch) return 1;
    int8_t *q = (int8_t *)scratch;
    float *scales = (float *)(scratch + rounded * GROUP);
    int32_t *sums = (int32_t *)(scales + rounded);
    quantize(x, is_half, q, scales, sums, tokens, columns, threads);
    const long blocks = (rows + ROWS - 1) / ROWS, block_bytes = groups * GROUP * ROWS * bits / 8;
    const long scale_step = bits == 4 ? ROWS : 0, block_scales = bits == 4 ? groups * ROWS : ROWS;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long b = 0; b < blocks; b++)
        for (long t = 0; t < tokens;) {
            const long left = tokens - t, count = left >= TOKENS ? TOKENS : left >= 4 ? 4 : 1;
            __m512 out[TOKENS];
            float values[ROWS];
#define CALL(NAME) NAME(q + t * groups * GROUP, scales + t * groups, sums + t * groups, w + b * block_bytes,   \
                        w_scales + b * block_scales, scale_step, groups, out)
            if (bits == 8) {
                if (count == TOKENS) CALL(many_8); else if (count == 4) CALL(some_8); else CALL(one_8);
            } else {
                if (count == TOKENS) CALL(many_4); else if (count == 4) CALL(some_4); else CALL(one_4);
            }
            const long inside = rows - b * ROWS < ROWS ? rows - b * ROWS : ROWS;
            for (long i = 0; i < count; i++) {
                _mm512_storeu_ps(values, out[i]);
                const long place = (t + i) * rows + b * ROWS;
                for (long r = 0; r < inside; r++)
                    if (is_half) ((uint16_t *)y)[place + r] = narrow(values[r]);
                    else ((float *)y)[place + r] = values[r];
            }
            t += count;
        }
    free(scratch);
    return 0;
}
