/* What neighbours.py does in PyTorch, for float32 on a CPU, run by run. There it is explained. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define WIDE __attribute__((target_clones("avx2", "default")))
#else
#define WIDE
#endif

/* distinct: of each row the first that is the same and present, or -1; whether it is that one itself. */
void distinct(int64_t runs, int64_t size, const int64_t *places, const uint8_t *present,
              uint8_t *counts, int64_t *first) {
    for (int64_t run = 0; run < runs; run++) {
        for (int64_t i = 0; i < size; i++) {
            int64_t j = 0;
            while (j < size && !(present[j] && places[j] == places[i])) j++;
            first[i] = j < size ? j : -1;
            counts[i] = j == i;
        }
        places += size, present += size, counts += size, first += size;
    }
}

/* standardised: sums in double precision. */
void standardised(int64_t runs, int64_t size, double tiny, const float *values,
                  const uint8_t *counts, float *result) {
    for (int64_t run = 0; run < runs; run++) {
        double number = 0, mean = 0, variance = 0;
        for (int64_t i = 0; i < size; i++)
            if (counts[i]) number += 1, mean += values[i];
        if (number < 1) number = 1;
        mean /= number;
        for (int64_t i = 0; i < size; i++)
            if (counts[i]) variance += (values[i] - mean) * (values[i] - mean);
        double scale = sqrt(variance / number + tiny);
        for (int64_t i = 0; i < size; i++) result[i] = (float)((values[i] - mean) / scale);
        values += size, counts += size, result += size;
    }
}

/* The k-th smallest of floats >= 0, or the largest finite one, or 0; bit by bit, since their order is that
   of the integers with the same bits. NaN counts as infinite. */
WIDE static float kth_smallest(const float *distances, int32_t *bits, int64_t size, int64_t k) {
    const int32_t infinite = 0x7f800000;
    int32_t finite = 0, found = 0;
    memcpy(bits, distances, size * sizeof *bits);
    for (int64_t j = 0; j < size; j++) bits[j] &= 0x7fffffff;
    for (int64_t j = 0; j < size; j++) finite += bits[j] < infinite;
    if (k > finite) k = finite;
    for (int bit = 30; k > 0 && bit >= 0; bit--) {
        int32_t next = found | (1 << bit), below = 0;
        for (int64_t j = 0; j < size; j++) below += bits[j] < next;
        if (below < k) found = next;
    }
    float value;
    memcpy(&value, &found, sizeof value);
    return value;
}

/* nearest: radius and count of each query, the first of a run's rows. Returns 0, or 1 without memory. */
WIDE int nearest(int64_t runs, int64_t size, int64_t dimensions, int64_t queries, int64_t most,
                 int64_t joint, double unit, const float *states, const float *conditions,
                 const uint8_t *counts, const int64_t *first, const uint8_t *up_to, float *radius,
                 int64_t *count) {
    float *columns = malloc((dimensions + 3) * size * sizeof *columns);
    if (!columns) return 1;
    float *by_state = columns + dimensions * size, *by_condition = by_state + size;
    int32_t *bits = (int32_t *)(by_condition + size);
    for (int64_t run = 0; run < runs; run++) {
        int64_t k = 0;
        for (int64_t j = 0; j < most; j++) k += up_to[j];
        for (int64_t j = 0; j < size; j++)
            for (int64_t d = 0; d < dimensions; d++)
                columns[d * size + j] = states[j * dimensions + d] / (float)unit;
        for (int64_t i = 0; i < queries; i++) {
            memset(by_state, 0, size * sizeof *by_state);
            for (int64_t d = 0; d < dimensions; d++) {
                const float *theirs = columns + d * size, mine = theirs[i];
                for (int64_t j = 0; j < size; j++)
                    by_state[j] += (mine - theirs[j]) * (mine - theirs[j]);
            }
            for (int64_t j = 0; j < size; j++) {
                float hidden = counts[j] ? 0 : INFINITY;
                by_state[j] = sqrtf(by_state[j]) + hidden;
                by_condition[j] = fabsf(conditions[i] - conditions[j]) + hidden;
            }
            if (first[i] >= 0) by_state[first[i]] = by_condition[first[i]] = INFINITY;
            if (joint) {
                for (int64_t j = 0; j < size; j++) { /* the larger, or NaN */
                    float one = by_state[j], other = by_condition[j];
                    by_state[j] = one > other || one != one ? one : other;
                }
                radius[i] = kth_smallest(by_state, bits, size, k);
            } else {
                float one = kth_smallest(by_state, bits, size, k);
                float other = kth_smallest(by_condition, bits, size, k);
                radius[i] = one > other || one != one ? one : other;
            }
            int32_t nearer = 0;
            for (int64_t j = 0; j < size; j++) nearer += by_condition[j] < radius[i];
            count[i] = nearer;
        }
        states += size * dimensions, conditions += size, counts += size, up_to += most;
        first += queries, radius += queries, count += queries;
    }
    free(columns);
    return 0;
}
