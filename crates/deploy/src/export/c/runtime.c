/*
 * Ternary convolutions by tables of sums. Eight output positions form a tile: four 32-bit words of two 16-bit lanes, so
 * one addition adds two positions on any 32-bit processor. Three rows of the input patch form a group; all 27 sums
 * x0*w0 + x1*w1 + x2*w2 with w in {-1, 0, 1} are computed once per tile and serve every output channel and every column
 * of the kernel. A weight triple is then a 5-bit table index: three of them, nine weights, are one halfword.
 */

/* Kept apart, so that each loop has the registers to itself. */
#if defined(__GNUC__)
#define APART __attribute__((noinline))
#else
#define APART
#endif

#if defined(__ARM_FEATURE_DSP) && defined(__GNUC__)
#define HAS_DSP 1
#endif

/* ---- f32 in integers: the bits IEEE 754 hardware gives, whatever the compiler does with floats ---- */

#define F32_NAN 0x7fc00000u
#define F32_INFINITY 0x7f800000u
#define F32_ONE 0x3f800000u
#define F32_SIGN 0x80000000u

static int top_bit(uint64_t v) {
#if defined(__GNUC__)
    return 63 - __builtin_clzll(v);
#else
    int n = 0;
    while (v >>= 1) n++;
    return n;
#endif
}

static int f32_finite(uint32_t v) { return (v & F32_INFINITY) != F32_INFINITY; }
static int f32_is_nan(uint32_t v) { return !f32_finite(v) && (v & 0x007fffffu) != 0; }

static uint32_t f32_mantissa(uint32_t v) {
    return (v & F32_INFINITY) == 0 ? v & 0x007fffffu : (v & 0x007fffffu) | 0x00800000u;
}
static int f32_exponent(uint32_t v) {
    int field = (int)(v >> 23 & 0xffu);
    return field == 0 ? -149 : field - 150;
}

/* m / 2^drop to the nearest integer, ties to even; drop of 1 to 63. */
static uint64_t nearest_even(uint64_t m, int drop) {
    uint64_t whole = m >> drop, rest = m & (((uint64_t)1 << drop) - 1), half = (uint64_t)1 << (drop - 1);
    return whole + (uint64_t)(rest > half || (rest == half && (whole & 1)));
}

/* m * 2^exponent rounded to single precision; m below 2^63. */
static uint32_t f32_round(uint32_t sign, uint64_t m, int exponent) {
    int drop, field;
    if (m == 0) return sign;
    drop = top_bit(m) - 23;
    if (drop < -149 - exponent) drop = -149 - exponent;
    if (drop > 63) return sign;
    m = drop <= 0 ? m << -drop : nearest_even(m, drop);
    exponent += drop;
    if (m < 0x00800000u) return sign | (uint32_t)m;
    if (m == 0x01000000u) {
        m = 0x00800000u;
        exponent++;
    }
    field = exponent + 150;
    return field >= 255 ? sign | F32_INFINITY : sign | (uint32_t)field << 23 | ((uint32_t)m & 0x007fffffu);
}

static uint32_t f32_from_i32(int32_t v) {
    return f32_round(v < 0 ? F32_SIGN : 0, v < 0 ? 0u - (uint32_t)v : (uint32_t)v, 0);
}

/* a * b + c with one rounding. */
static uint32_t f32_fma(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t sign = (a ^ b) & F32_SIGN, other = c & F32_SIGN;
    uint64_t big, small;
    int e, f, lift;
    if (!f32_finite(a) || !f32_finite(b)) {
        if (f32_is_nan(a) || f32_is_nan(b) || f32_is_nan(c) || a << 1 == 0 || b << 1 == 0) return F32_NAN;
        return !f32_finite(c) && other != sign ? F32_NAN : F32_INFINITY | sign;
    }
    if (!f32_finite(c)) return f32_is_nan(c) ? F32_NAN : c;
    big = (uint64_t)f32_mantissa(a) * f32_mantissa(b);
    e = f32_exponent(a) + f32_exponent(b);
    small = f32_mantissa(c);
    f = f32_exponent(c);
    if (big == 0) return c;
    if (small == 0) return f32_round(sign, big, e);
    /* Both with their highest bit at 61. The operand with the smaller exponent has at most 48 significant bits, so what
     * it loses below bit 0 only counts as "something", kept in its lowest bit. */
    lift = 61 - top_bit(big);
    big <<= lift;
    e -= lift;
    lift = 61 - top_bit(small);
    small <<= lift;
    f -= lift;
    if (f > e) {
        uint64_t m = big;
        uint32_t s = sign;
        int x = e;
        big = small, small = m;
        sign = other, other = s;
        e = f, f = x;
    }
    f = e - f;
    if (f > 62) small = 1;
    else if (f > 0) small = small >> f | (uint64_t)((small & (((uint64_t)1 << f) - 1)) != 0);
    if (sign == other) return f32_round(sign, big + small, e);
    return small > big ? f32_round(other, small - big, e) : f32_round(sign, big - small, e);
}

/* clamp(round_half_even(value * 2^shift), 0, max); NaN gives 0. */
static uint8_t f32_code(uint32_t value, int shift, uint8_t max) {
    uint32_t m;
    uint64_t code;
    int e;
    if ((value & F32_SIGN) != 0 || f32_is_nan(value)) return 0;
    if (!f32_finite(value)) return max;
    m = f32_mantissa(value);
    e = f32_exponent(value) + shift;
    if (e >= 9) code = m == 0 ? 0 : 512;
    else if (e >= 0) code = (uint64_t)m << e;
    else code = e < -25 ? 0 : nearest_even(m, -e);
    return code > max ? max : (uint8_t)code;
}

/* ---- descriptors ---- */

enum { CODES, TERNARY, INT8, DEPTHWISE, DENSE_TERNARY, DENSE_INT8 };
enum { KERNEL_3, KERNEL_3_STRIDE_2, KERNEL_1, KERNEL_ANY };
/* Marks in place of a fixed-point shift; 64 added to a shift says that the line may leave 32 bits. */
enum { RISING = 0x80, FALLING = 0x81, FLOAT = 0x82 };

/* A source of accumulators: `[channel][position of the tile]`. Rows and columns are those of the tile's orientation. */
typedef struct {
    uint8_t kind, kernel, wide, zero_point;
    uint32_t input;            /* offset in the arena, bytes */
    uint16_t in_h, in_w, in_c, out_c;
    uint32_t in_row, in_col;   /* elements between rows, columns */
    uint8_t kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left;
    /* ternary convolutions: words of a table entry, their number as a power of two, groups per chunk, chunks, halfwords of
     * weights per channel and chunk, and after how many chunks 16-bit sums must be emptied */
    uint8_t words, words_log2, chunk, halfwords;
    uint16_t chunks, flush;
    const uint8_t *columns;    /* input column of each word */
    const uint16_t *places;    /* KERNEL_ANY: word at which index i of a chunk finds its table */
    const void *weights;
    const int32_t *correction; /* per channel zero point times sum of weights, or null */
    const uint32_t *scale, *bias, *a, *b; /* f32 bits, where the epilogue is f32; absent ones null */
} branch_t;

/* One step that ends in codes. */
typedef struct {
    branch_t branch[2];
    uint8_t branches, lane_y, lane_x, max;
    int8_t grid;               /* codes per unit as a power of two, for f32 epilogues */
    uint16_t out_h, out_w;
    uint32_t out_row, out_col; /* elements between rows, columns */
    uint32_t output;
    const int32_t *multiplier; /* or the number of thresholds */
    const int64_t *offset;     /* or where in `extra` thresholds or constants start */
    const uint8_t *shift;
    const int32_t *extra;
    const int32_t *slope;      /* residual sums: fixed-point slopes of both branches, */
    const uint32_t *margin;    /* and how far from a step they decide; else f32 does */
    const int32_t *lines;      /* 16-bit sums: multipliers and offsets */
    const uint8_t *fraction;   /* and their fractional bits */
} step_t;

typedef struct {
    uint16_t in_w, out_h, out_w, channels, kernel_h, kernel_w, stride_h, stride_w;
    uint32_t input, output;
} pool_t;

#if USE_TERNARY || USE_INT8 || USE_DEPTHWISE
/* ---- reading the patch of a tile ---- */

/* The pixel a word or position reads, or one of zero points beyond the border. */
static const uint8_t *pixel(const branch_t *b, const uint8_t *in, int y, int x) {
    if (y < 0 || x < 0 || y >= b->in_h || x >= b->in_w) return (const uint8_t *)pad_pixel;
    return in + (uint32_t)y * b->in_row + (uint32_t)x * b->in_col;
}
#endif

#if USE_TERNARY || (HAS_DSP && (USE_INT8 || USE_DEPTHWISE))
static uint32_t word_of(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}
#endif

#if USE_TERNARY
/* ---- ternary convolution ---- */

@THUMB2@/* The 27 sums of one group for two columns at a time; entry 9 * (w0 + 1) + 3 * (w1 + 1) + w2 + 1. */
static APART void build(uint32_t *t, const uint32_t *x, int words, int stride, int log2) {
    int w, step = 1 << log2;
    for (w = 0; w < words; w += 2, x += 2, t += 2) {
        uint32_t p0 = x[0], q0 = x[1], p1 = x[stride], q1 = x[stride + 1], p2 = x[2 * stride], q2 = x[2 * stride + 1];
        uint32_t p = 0u - p0 - p1, q = 0u - q0 - q1, *o = t;
        int i, j;
        for (i = 0; i < 3; i++) {
            for (j = 0; j < 3; j++) {
                o[0] = p - p2, o[1] = q - q2, o += step;
                o[0] = p, o[1] = q, o += step;
                o[0] = p + p2, o[1] = q + q2, o += step;
                p += p1, q += q1;
            }
            p += p0 - 3 * p1, q += q0 - 3 * q1;
        }
    }
}

#define ADD_ENTRY(entry) \
    do { \
        const uint32_t *e_ = (entry); \
        s0 += e_[0], s1 += e_[1], s2 += e_[2], s3 += e_[3]; \
    } while (0)

/* Adds one chunk to every channel's sums; a halfword's three indices have their tables `o0`, `o1`, `o2` words apart, and
 * the next halfword's `next` words on. */
static inline const uint16_t *add_triples(uint32_t *sums, const uint32_t *t, const uint16_t *w, int channels,
                                          int halfwords, int log2, int o0, int o1, int o2, int next) {
    uint32_t *end = sums + 4 * channels;
    do {
        uint32_t s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
        const uint32_t *at = t;
        int n = halfwords;
        do {
            uint32_t v = *w++;
            ADD_ENTRY(at + ((v & 31u) << log2) + o0);
            ADD_ENTRY(at + ((v >> 5 & 31u) << log2) + o1);
            ADD_ENTRY(at + (v >> 10 << log2) + o2);
            at += next;
        } while (--n);
        sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
        sums += 4;
    } while (sums != end);
    return w;
}

#define ADD_TRIPLES_FOR(name, log2, o0, o1, o2, next) \
    static APART const uint16_t *name(uint32_t *s, const uint32_t *t, const uint16_t *w, int channels, int halfwords) { \
        return add_triples(s, t, w, channels, halfwords, log2, o0, o1, o2, next); \
    }
#if !HAS_THUMB2
ADD_TRIPLES_FOR(add_3, 3, 0, 1, 2, 216)
#endif
ADD_TRIPLES_FOR(add_3_stride_2, 4, 0, 5, 1, 432)
ADD_TRIPLES_FOR(add_1, 2, 0, 108, 216, 324)

/* The same for any kernel: where each index finds its table is looked up. */
static APART const uint16_t *add_any(uint32_t *sums, const branch_t *b, const uint32_t *t, const uint16_t *w) {
    int c, h;
    for (c = 0; c < b->out_c; c++, sums += 4) {
        uint32_t s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
        const uint16_t *place = b->places;
        for (h = 0; h < b->halfwords; h++, place += 3) {
            uint32_t v = *w++;
            ADD_ENTRY(t + place[0] + ((v & 31u) << b->words_log2));
            ADD_ENTRY(t + place[1] + ((v >> 5 & 31u) << b->words_log2));
            ADD_ENTRY(t + place[2] + (v >> 10 << b->words_log2));
        }
        sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
    }
    return w;
}

/*
 * Moves the 16-bit lanes to `acc`, on top of what is there or, the first time, as the first. Lanes were added as one
 * integer, so the lower one's sign borrows from the upper.
 */
static APART void empty(int32_t *acc, uint32_t *sums, const int32_t *correction, int channels, int first) {
    int c, j;
    for (c = 0; c < channels; c++, acc += 8, sums += 4) {
        for (j = 0; j < 4; j++) {
            uint32_t s = sums[j];
            int32_t low = (int16_t)(s & 0xffffu), high = (int32_t)(s - (uint32_t)low) >> 16;
            if (first) {
                int32_t less = correction ? correction[c] : 0;
                acc[j] = low - less;
                acc[j + 4] = high - less;
            } else {
                acc[j] += low;
                acc[j + 4] += high;
            }
        }
    }
}

/* The usual case of the above: only once, nothing to correct. */
static APART void empty_once(int32_t *acc, const uint32_t *sums, int channels) {
    const uint32_t *end = sums + 4 * channels;
    for (; sums != end; acc += 8, sums += 4) {
        uint32_t s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
        int32_t a0 = (int16_t)(s0 & 0xffffu), a1 = (int16_t)(s1 & 0xffffu);
        int32_t a2 = (int16_t)(s2 & 0xffffu), a3 = (int16_t)(s3 & 0xffffu);
        acc[0] = a0, acc[1] = a1, acc[2] = a2, acc[3] = a3;
        acc[4] = (int32_t)(s0 - (uint32_t)a0) >> 16;
        acc[5] = (int32_t)(s1 - (uint32_t)a1) >> 16;
        acc[6] = (int32_t)(s2 - (uint32_t)a2) >> 16;
        acc[7] = (int32_t)(s3 - (uint32_t)a3) >> 16;
    }
}

static void zero(uint32_t *sums, int channels) {
    uint32_t *end = sums + 4 * channels;
    for (; sums != end; sums += 4) sums[0] = 0, sums[1] = 0, sums[2] = 0, sums[3] = 0;
}

/* The rows of one group: word k holds the codes of channel `c` and kernel row `ky` at column k in both lanes. */
static void read_group(const branch_t *b, uint32_t *x, int stride, int *c, int *ky) {
    int i, k, words = b->words, kh = b->kernel_h;
    for (i = 0; i < 3; i++, x += stride) {
        if (*c < b->in_c) {
            const uint8_t *const *low = (const uint8_t *const *)pixels + *ky * words, *const *high = low + kh * words;
            for (k = 0; k < words; k++) x[k] = low[k][*c] | (uint32_t)high[k][*c] << 16;
        } else {
            memset(x, 0, (size_t)4 * (size_t)stride);
        }
        if (++*ky == kh) *ky = 0, ++*c;
    }
}

/* The group of one channel under a kernel of three rows. */
static APART void read_one(const uint8_t *const *low, int words, uint32_t *x, int stride, int c) {
    int ky, k;
    for (ky = 0; ky < 3; ky++, x += stride)
        for (k = 0; k < words; k++, low++) x[k] = low[0][c] | (uint32_t)low[3 * words][c] << 16;
}

/* The groups of four channels under a kernel of three rows. */
static APART void read_four(const uint8_t *const *low, int words, uint32_t *x, int stride, int c) {
    int ky, k;
    for (ky = 0; ky < 3; ky++, x += stride) {
        for (k = 0; k < words; k++, low++) {
            uint32_t a = word_of(low[0] + c), b = word_of(low[3 * words] + c);
            uint32_t a0 = a & 0x00ff00ffu, a1 = a >> 8 & 0x00ff00ffu, b0 = b & 0x00ff00ffu, b1 = b >> 8 & 0x00ff00ffu;
            x[k] = (a0 & 0xffffu) | b0 << 16;
            x[k + 3 * stride] = (a1 & 0xffffu) | b1 << 16;
            x[k + 6 * stride] = a0 >> 16 | (b0 & 0xffff0000u);
            x[k + 9 * stride] = a1 >> 16 | (b1 & 0xffff0000u);
        }
    }
}

static const uint16_t *add_chunk(const branch_t *b, const uint16_t *w) {
    switch (b->kernel) {
    case KERNEL_3:
#if HAS_THUMB2
#if USE_CHUNK_1
        if (b->chunk == 1) return add_triples_1(sums, table, w, sums + 4 * b->out_c);
#endif
#if USE_CHUNK_2
        if (b->chunk == 2) return add_triples_2(sums, table, w, sums + 4 * b->out_c);
#endif
#if USE_CHUNK_3
        if (b->chunk == 3) return add_triples_3(sums, table, w, sums + 4 * b->out_c);
#endif
#if USE_CHUNK_4
        if (b->chunk == 4) return add_triples_4(sums, table, w, sums + 4 * b->out_c);
#endif
#if USE_CHUNK_8
        if (b->chunk == 8) return add_triples_8(sums, table, w, sums + 4 * b->out_c);
#endif
        return w;
#else
        return add_3(sums, table, w, b->out_c, b->halfwords);
#endif
    case KERNEL_3_STRIDE_2: return add_3_stride_2(sums, table, w, b->out_c, b->halfwords);
    case KERNEL_1: return add_1(sums, table, w, b->out_c, b->halfwords);
    default: return add_any(sums, b, table, w);
    }
}

/* Where the words of a tile's patch are: `[lane][kernel row][word]`. */
static void find_words(const branch_t *b, const step_t *s, const uint8_t *in, int oy, int ox) {
    const uint8_t **p = (const uint8_t **)pixels;
    int lane, k, i, last = 3 * b->stride_w + b->kernel_w - 1;
    for (lane = 0; lane < 2; lane++)
        for (k = 0; k < b->kernel_h; k++) {
            int y = (oy + lane * s->lane_y) * b->stride_h + k - b->pad_top;
            int x = (ox + lane * s->lane_x) * b->stride_w - b->pad_left;
            if (y >= 0 && y < b->in_h && x >= 0 && x + last < b->in_w) {
                const uint8_t *from = in + (uint32_t)y * b->in_row + (uint32_t)x * b->in_col;
                if (b->stride_w == 1)
                    for (i = 0; i < b->words; i++, from += b->in_col) *p++ = from;
                else
                    for (i = 0; i < b->words; i++) *p++ = from + b->columns[i] * b->in_col;
            } else {
                for (i = 0; i < b->words; i++) *p++ = pixel(b, in, y, x + b->columns[i]);
            }
        }
}

/* The sums of a tile: emptied to `acc`, or left in `sums` where that is null. */
static void ternary_tile(const branch_t *b, const step_t *s, const uint8_t *in, int oy, int ox, int32_t *acc) {
    const uint16_t *w = (const uint16_t *)b->weights;
    const uint8_t *const *low = (const uint8_t *const *)pixels;
    int words = b->words, stride = (words + 1) & ~1, chunk, since = 0, first = 1, c = 0, ky = 0;
    int three = b->kernel_h == 3, four = three && b->chunk % 4 == 0 && b->in_c % 4 == 0;
    find_words(b, s, in, oy, ox);
    zero(sums, b->out_c);
    for (chunk = 0; chunk < b->chunks; chunk++) {
        uint32_t *t = table, *x = patch;
        int g;
        for (g = 0; g < b->chunk; g += four ? 4 : 1) {
            uint32_t *to = x + 3 * g * stride;
            if (four) read_four(low, words, to, stride, c), c += 4;
            else if (three && c < b->in_c) read_one(low, words, to, stride, c++);
            else read_group(b, to, stride, &c, &ky);
        }
        for (g = 0; g < b->chunk; g++, x += 3 * stride, t += (uint32_t)27 << b->words_log2) {
#if HAS_THUMB2
            if (b->kernel == KERNEL_3) {
                build_3(t, x);
                continue;
            }
#endif
            build(t, x, words, stride, b->words_log2);
        }
        w = add_chunk(b, w);
        if (++since == b->flush && chunk + 1 < b->chunks) {
            empty(acc, sums, b->correction, b->out_c, first);
            zero(sums, b->out_c);
            since = 0;
            first = 0;
        }
    }
    if (!acc) return;
    if (first && !b->correction) empty_once(acc, sums, b->out_c);
    else empty(acc, sums, b->correction, b->out_c, first);
}
#endif

#if USE_INT8 || USE_DEPTHWISE
/* ---- 8-bit weights ---- */

#if HAS_DSP
/* Two products of signed halfwords, added. */
static inline int32_t smlad(uint32_t x, uint32_t w, int32_t acc) {
    int32_t r;
    __asm__("smlad %0, %1, %2, %3" : "=r"(r) : "r"(x), "r"(w), "r"(acc));
    return r;
}
static inline uint32_t uxtb16(uint32_t v) {
    uint32_t r;
    __asm__("uxtb16 %0, %1" : "=r"(r) : "r"(v));
    return r;
}
static inline uint32_t uxtb16_odd(uint32_t v) {
    uint32_t r;
    __asm__("uxtb16 %0, %1, ror #8" : "=r"(r) : "r"(v));
    return r;
}
static inline uint32_t sxtb16(uint32_t v) {
    uint32_t r;
    __asm__("sxtb16 %0, %1" : "=r"(r) : "r"(v));
    return r;
}
static inline uint32_t sxtb16_odd(uint32_t v) {
    uint32_t r;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(r) : "r"(v));
    return r;
}
#endif

#if USE_INT8
/* Products of `n` codes at four pixels with the same weights. */
static void dot_4(const uint8_t *const *p, const int8_t *w, int n, int32_t *acc) {
    const uint8_t *p0 = p[0], *p1 = p[1], *p2 = p[2], *p3 = p[3];
    int32_t a0 = acc[0], a1 = acc[1], a2 = acc[2], a3 = acc[3];
    int i = 0;
#if HAS_DSP
    for (; i + 4 <= n; i += 4) {
        uint32_t v = word_of((const uint8_t *)w + i), even = sxtb16(v), odd = sxtb16_odd(v);
        v = word_of(p0 + i), a0 = smlad(uxtb16(v), even, a0), a0 = smlad(uxtb16_odd(v), odd, a0);
        v = word_of(p1 + i), a1 = smlad(uxtb16(v), even, a1), a1 = smlad(uxtb16_odd(v), odd, a1);
        v = word_of(p2 + i), a2 = smlad(uxtb16(v), even, a2), a2 = smlad(uxtb16_odd(v), odd, a2);
        v = word_of(p3 + i), a3 = smlad(uxtb16(v), even, a3), a3 = smlad(uxtb16_odd(v), odd, a3);
    }
#endif
    for (; i < n; i++) {
        int32_t v = w[i];
        a0 += v * p0[i], a1 += v * p1[i], a2 += v * p2[i], a3 += v * p3[i];
    }
    acc[0] = a0, acc[1] = a1, acc[2] = a2, acc[3] = a3;
}
#endif

/* Pixels under a tile: `[kernel row][kernel column][position]`. */
static void find_pixels(const branch_t *b, const step_t *s, const uint8_t *in, int oy, int ox) {
    const uint8_t **p = (const uint8_t **)pixels;
    int ky, kx, j;
    for (ky = 0; ky < b->kernel_h; ky++)
        for (kx = 0; kx < b->kernel_w; kx++)
            for (j = 0; j < 8; j++) {
                int y = (oy + (j >> 2) * s->lane_y) * b->stride_h + ky - b->pad_top;
                int x = (ox + (j & 3) + (j >> 2) * s->lane_x) * b->stride_w + kx - b->pad_left;
                *p++ = pixel(b, in, y, x);
            }
}

#if USE_INT8
static void int8_tile(const branch_t *b, const step_t *s, const uint8_t *in, int oy, int ox, int32_t *acc) {
    const int8_t *w = (const int8_t *)b->weights;
    int taps = b->kernel_h * b->kernel_w, c, k;
    find_pixels(b, s, in, oy, ox);
    for (c = 0; c < b->out_c; c++, acc += 8) {
        const uint8_t *const *p = (const uint8_t *const *)pixels;
        for (k = 0; k < taps; k++, p += 8, w += b->in_c) {
            dot_4(p, w, b->in_c, acc);
            dot_4(p + 4, w, b->in_c, acc + 4);
        }
    }
}
#endif

#if USE_DEPTHWISE
/* Weights `[tap][channel]`, trits unpacked to bytes before the step. */
static void depthwise_tile(const branch_t *b, const step_t *s, const uint8_t *in, int oy, int ox, int32_t *acc) {
    const int8_t *weights = b->kernel ? (const int8_t *)unpacked : (const int8_t *)b->weights;
    int taps = b->kernel_h * b->kernel_w, channels = b->out_c, j, k, c;
    find_pixels(b, s, in, oy, ox);
    for (j = 0; j < 8; j++) {
        const uint8_t *const *p = (const uint8_t *const *)pixels + j;
        int32_t *a = acc + j;
        c = 0;
#if HAS_DSP
        for (; c + 4 <= channels; c += 4, a += 32) {
            int32_t a0 = a[0], a1 = a[8], a2 = a[16], a3 = a[24];
            const int8_t *w = weights + c;
            for (k = 0; k < taps; k++, w += channels) {
                uint32_t x = word_of(p[8 * k] + c), v = word_of((const uint8_t *)w);
                uint32_t even = uxtb16(x), odd = uxtb16_odd(x), w_even = sxtb16(v), w_odd = sxtb16_odd(v);
                __asm__("smlabb %0, %1, %2, %0" : "+r"(a0) : "r"(even), "r"(w_even));
                __asm__("smlabb %0, %1, %2, %0" : "+r"(a1) : "r"(odd), "r"(w_odd));
                __asm__("smlatt %0, %1, %2, %0" : "+r"(a2) : "r"(even), "r"(w_even));
                __asm__("smlatt %0, %1, %2, %0" : "+r"(a3) : "r"(odd), "r"(w_odd));
            }
            a[0] = a0, a[8] = a1, a[16] = a2, a[24] = a3;
        }
#endif
        for (; c < channels; c++, a += 8) {
            int32_t sum = *a;
            for (k = 0; k < taps; k++) sum += weights[k * channels + c] * p[8 * k][c];
            *a = sum;
        }
    }
}
#endif

#endif

/* ---- one position: dense layers ---- */

static int32_t code_at(const branch_t *b, const uint8_t *in, uint32_t i) {
    uint16_t v;
    if (!b->wide) return in[i];
    memcpy(&v, in + 2 * i, 2);
    return v;
}

/* The trits of a table index. */
static const int8_t TRITS[27][3] = {
    {-1, -1, -1}, {-1, -1, 0}, {-1, -1, 1}, {-1, 0, -1}, {-1, 0, 0}, {-1, 0, 1}, {-1, 1, -1}, {-1, 1, 0}, {-1, 1, 1},
    {0, -1, -1},  {0, -1, 0},  {0, -1, 1},  {0, 0, -1},  {0, 0, 0},  {0, 0, 1},  {0, 1, -1},  {0, 1, 0},  {0, 1, 1},
    {1, -1, -1},  {1, -1, 0},  {1, -1, 1},  {1, 0, -1},  {1, 0, 0},  {1, 0, 1},  {1, 1, -1},  {1, 1, 0},  {1, 1, 1}};

/* Weights `[channel][input]`: halfwords of three indices for trits, bytes otherwise. */
static void dense(const branch_t *b, const uint8_t *in, int32_t *acc, int apart) {
    uint32_t n = b->in_c, i;
    int c, k;
    for (c = 0; c < b->out_c; c++, acc += apart) {
        int32_t sum = *acc;
        if (b->kind == DENSE_TERNARY) {
            const uint16_t *w = (const uint16_t *)b->weights + (uint32_t)c * ((n + 8) / 9);
            for (i = 0; i < n; w++) {
                uint32_t v = *w;
                for (k = 0; k < 3 && i < n; k++, v >>= 5) {
                    const int8_t *t = TRITS[v & 31u];
                    sum += t[0] * code_at(b, in, i++);
                    if (i < n) sum += t[1] * code_at(b, in, i++);
                    if (i < n) sum += t[2] * code_at(b, in, i++);
                }
            }
        } else {
            const int8_t *w = (const int8_t *)b->weights + (uint32_t)c * n;
            for (i = 0; i < n; i++) sum += w[i] * code_at(b, in, i);
        }
        *acc = sum;
    }
}

/* ---- steps ---- */

/* Prepares what a branch's tiles share. */
static void start(const branch_t *b) {
#if USE_TERNARY || USE_INT8 || USE_DEPTHWISE
    if (b->kind == TERNARY || b->kind == INT8 || b->kind == DEPTHWISE) memset(pad_pixel, b->zero_point, b->in_c);
#endif
#if USE_DEPTHWISE
    /* Trits, four to a byte, lowest first. */
    if (b->kind == DEPTHWISE && b->kernel) {
        const uint8_t *w = (const uint8_t *)b->weights;
        int i, n = b->kernel_h * b->kernel_w * b->out_c;
        for (i = 0; i < n; i++) ((int8_t *)unpacked)[i] = (int8_t)((w[i / 4] >> 2 * (i % 4) & 3) - 1);
    }
#endif
    (void)b;
}

static void accumulate(const branch_t *b, const step_t *s, int oy, int ox, int32_t *acc) {
    const uint8_t *in = (const uint8_t *)arena + b->input;
    int c, j;
    if (b->kind != TERNARY)
        for (c = 0; c < b->out_c; c++)
            for (j = 0; j < 8; j++) acc[8 * c + j] = b->correction ? -b->correction[c] : 0;
    switch (b->kind) {
#if USE_TERNARY
    case TERNARY: ternary_tile(b, s, in, oy, ox, acc); break;
#endif
#if USE_INT8
    case INT8: int8_tile(b, s, in, oy, ox, acc); break;
#endif
#if USE_DEPTHWISE
    case DEPTHWISE: depthwise_tile(b, s, in, oy, ox, acc); break;
#endif
    case CODES:
        for (j = 0; j < 8; j++) {
            int y = oy + (j >> 2) * s->lane_y, x = ox + (j & 3) + (j >> 2) * s->lane_x;
            if (y >= b->in_h || x >= b->in_w) continue;
            for (c = 0; c < b->out_c; c++)
                acc[8 * c + j] += in[(uint32_t)y * b->in_row + (uint32_t)x * b->in_col + (uint32_t)c];
        }
        break;
    default: dense(b, in, acc, 8);
    }
}

/* The real value of an accumulator, as f32 bits, with the roundings of the trained network. */
static uint32_t value(const branch_t *b, int32_t acc, int c) {
    uint32_t y = f32_fma(f32_from_i32(acc), b->scale[c], 0);
    if (b->bias) y = f32_fma(y, F32_ONE, b->bias[c]);
    if (b->a) y = f32_fma(y, b->a[c], b->b[c]);
    return y;
}

/* Codes that are no line: thresholds, or the f32 operations themselves. */
static uint8_t other_code(const step_t *s, int c, int32_t acc) {
    const int32_t *extra = s->extra + (uint32_t)s->offset[c];
    if (s->shift[c] == FLOAT) {
        uint32_t y = f32_fma(f32_from_i32(acc), (uint32_t)extra[0], 0);
        y = f32_fma(f32_fma(y, F32_ONE, (uint32_t)extra[1]), (uint32_t)extra[2], (uint32_t)extra[3]);
        return f32_code(y, s->grid, s->max);
    } else {
        int32_t u = s->shift[c] == FALLING ? -acc : acc;
        int low = 0, high = s->max;
        while (low < high) {
            int middle = (low + high) / 2;
            if (extra[middle] <= u) low = middle + 1;
            else high = middle;
        }
        return (uint8_t)low;
    }
}

/* Codes of one channel at the positions `at` of a tile. */
static void codes(const step_t *s, int c, const int32_t *a, const int32_t *second, const uint8_t *at, uint8_t *const *to,
                  int count) {
    int j;
    for (j = 0; j < count; j++) {
        uint8_t *out = to[j] + c;
        if (s->branches == 2) {
            uint32_t x = value(&s->branch[0], a[at[j]], c), z = value(&s->branch[1], second[at[j]], c);
            *out = f32_code(f32_fma(x, F32_ONE, z), s->grid, s->max);
        } else if (s->shift[c] < RISING) {
            int64_t v = ((int64_t)a[at[j]] * s->multiplier[c] + s->offset[c]) >> (s->shift[c] & 63);
            *out = (uint8_t)(v < 0 ? 0 : v > s->max ? s->max : v);
        } else {
            *out = other_code(s, c, a[at[j]]);
        }
    }
}

#if HAS_DSP
#define TO_BYTE(v) __asm__("usat %0, #8, %0" : "+r"(v))
#else
#define TO_BYTE(v) v = v < 0 ? 0 : v > 255 ? 255 : v
#endif
/* One line at four positions, 8-bit codes; `HIGH` makes 32 bits of the 64. */
#define LINE_1(i, HIGH) \
    do { \
        int64_t wide_ = (int64_t)a[i] * m + offset; \
        int32_t v_ = HIGH; \
        TO_BYTE(v_); \
        *o = (uint8_t)v_; \
        o += col; \
    } while (0)
#define LINE_8(HIGH) \
    LINE_1(0, HIGH); LINE_1(1, HIGH); LINE_1(2, HIGH); LINE_1(3, HIGH); \
    o = out + lane; \
    LINE_1(4, HIGH); LINE_1(5, HIGH); LINE_1(6, HIGH); LINE_1(7, HIGH)

/* All channels of a whole tile of 8-bit codes; where the line's 64-bit value is known to leave 32 bits after the shift. */
static APART void whole_tile(const step_t *s, const int32_t *a, const uint8_t *at, uint8_t *const *to) {
    uint32_t col = s->out_col, lane = (uint32_t)s->lane_y * s->out_row + (uint32_t)s->lane_x * col;
    int c, channels = s->branch[0].out_c;
    uint8_t *out = to[0];
    for (c = 0; c < channels; c++, a += 8, out++) {
        int shift = s->shift[c];
        uint8_t *o = out;
        if (shift < 64) {
            int32_t m = s->multiplier[c];
            int64_t offset = s->offset[c];
            if (shift >= 32) {
                shift -= 32;
                LINE_8((int32_t)(wide_ >> 32) >> shift);
            } else {
                int up = 32 - shift;
                LINE_8((int32_t)((uint32_t)(wide_ >> 32) << up | (uint32_t)wide_ >> shift));
            }
        } else {
            codes(s, c, a, a, at, to, 8);
        }
    }
}

#if USE_SHORT
#if HAS_DSP
static inline int32_t line_low(int32_t m, uint32_t v, int32_t offset) {
    int32_t r;
    __asm__("smlawb %0, %1, %2, %3" : "=r"(r) : "r"(m), "r"(v), "r"(offset));
    return r;
}
static inline int32_t line_high(int32_t m, uint32_t v, int32_t offset) {
    int32_t r;
    __asm__("smlawt %0, %1, %2, %3" : "=r"(r) : "r"(m), "r"(v), "r"(offset));
    return r;
}
#else
static int32_t line_low(int32_t m, uint32_t v, int32_t offset) {
    return (int32_t)((int64_t)(int16_t)(v & 0xffffu) * m >> 16) + offset;
}
static int32_t line_high(int32_t m, uint32_t v, int32_t offset) { return line_low(m, v >> 16, offset); }
#endif

#define LINE_2(v, at) \
    do { \
        uint32_t high_ = (v) - (uint32_t)(int32_t)(int16_t)((v) & 0xffffu); \
        int32_t a_ = line_low(m, (v), offset) >> shift, b_ = line_high(m, high_, offset) >> shift; \
        TO_BYTE(a_); \
        TO_BYTE(b_); \
        out[at] = (uint8_t)a_, second[at] = (uint8_t)b_; \
    } while (0)

/* 8-bit codes of a tile from its 16-bit sums; columns and lanes are so far apart in `out`. */
static APART void short_tile(const step_t *s, const uint32_t *v, uint8_t *out, uint32_t col, uint32_t lane) {
    const int32_t *line = s->lines;
    const uint8_t *fraction = s->fraction, *end = fraction + s->branch[0].out_c;
    uint8_t *second = out + lane;
    uint32_t twice = 2 * col, thrice = 3 * col;
    do {
        int32_t m = line[0], offset = line[1];
        uint32_t s0 = v[0], s1 = v[1], s2 = v[2], s3 = v[3];
        int shift = *fraction++;
        LINE_2(s0, 0);
        LINE_2(s1, col);
        LINE_2(s2, twice);
        LINE_2(s3, thrice);
        line += 2, v += 4, out++, second++;
    } while (fraction != end);
}
#endif

#if USE_FIXED
/* A sum of two branches: fixed point where that is sure of the code, else the f32 operations. */
static APART void fixed_tile(const step_t *s, const int32_t *a, const int32_t *z, const uint8_t *at, uint8_t *const *to,
                             int count) {
    int c, j, channels = s->branch[0].out_c;
    for (c = 0; c < channels; c++, a += 8, z += 8) {
        int32_t m = s->slope[2 * c], n = s->slope[2 * c + 1];
        int64_t offset = s->offset[c];
        uint32_t margin = s->margin[c], sure = 0u - 2 * margin;
        for (j = 0; j < count; j++) {
            int64_t v = offset + (int64_t)a[at[j]] * m + (int64_t)z[at[j]] * n;
            int32_t code = (int32_t)(v >> 30);
            if (((uint32_t)v << 2) - margin < sure) to[j][c] = (uint8_t)(code < 0 ? 0 : code > s->max ? s->max : code);
            else codes(s, c, a, z, at + j, to + j, 1);
        }
    }
}
#endif

static void run_step(const step_t *s) {
    uint8_t *out = (uint8_t *)arena + s->output;
    const branch_t *b = s->branch;
    int32_t *first = accumulators, *second = accumulators + 8 * b->out_c;
    int oy, ox, c, j, channels = b->out_c;
    /* Whether the branches need different things prepared. */
    int again = s->branches == 2 && (b[0].zero_point != b[1].zero_point || b[0].kind == DEPTHWISE || b[1].kind == DEPTHWISE);
    start(&b[0]);
    if (s->branches == 2 && b[1].in_c > b[0].in_c) start(&b[1]);
    for (oy = 0; oy < s->out_h; oy += 1 + s->lane_y)
        for (ox = 0; ox < s->out_w; ox += 4 + s->lane_x) {
            uint8_t *to[8], at[8];
            int count = 0;
#if USE_SHORT
            if (s->lines && oy + s->lane_y < s->out_h && ox + s->lane_x + 3 < s->out_w) {
                uint32_t lane = (uint32_t)s->lane_y * s->out_row + (uint32_t)s->lane_x * s->out_col;
                ternary_tile(b, s, (const uint8_t *)arena + b->input, oy, ox, NULL);
                short_tile(s, sums, out + (uint32_t)oy * s->out_row + (uint32_t)ox * s->out_col, s->out_col, lane);
                continue;
            }
#endif
            if (again) start(&b[0]);
            if (!s->lines) accumulate(&b[0], s, oy, ox, first);
            if (again) start(&b[1]);
            if (s->branches == 2) accumulate(&b[1], s, oy, ox, second);
            for (j = 0; j < 8; j++) {
                int y = oy + (j >> 2) * s->lane_y, x = ox + (j & 3) + (j >> 2) * s->lane_x;
                if (y >= s->out_h || x >= s->out_w) continue;
                at[count] = (uint8_t)j;
                to[count++] = out + (uint32_t)y * s->out_row + (uint32_t)x * s->out_col;
            }
#if USE_SHORT
            if (s->lines) {
                /* Some positions lie outside: all codes are made elsewhere, those inside copied. */
                uint8_t *made = (uint8_t *)accumulators;
                ternary_tile(b, s, (const uint8_t *)arena + b->input, oy, ox, NULL);
                short_tile(s, sums, made, (uint32_t)channels, 4 * (uint32_t)channels);
                for (j = 0; j < count; j++) memcpy(to[j], made + at[j] * channels, (size_t)channels);
                continue;
            }
#endif
#if USE_FIXED
            if (s->slope) {
                fixed_tile(s, first, second, at, to, count);
                continue;
            }
#endif
            if (count == 8 && s->branches == 1 && s->max == 255) whole_tile(s, first, at, to);
            else
                for (c = 0; c < channels; c++) codes(s, c, first + 8 * c, second + 8 * c, at, to, count);
        }
}

static void run_logits(const branch_t *b, int32_t *logits) {
    int c;
    for (c = 0; c < b->out_c; c++) logits[c] = b->correction ? -b->correction[c] : 0;
    dense(b, (const uint8_t *)arena + b->input, logits, 1);
}

/* An integer that orders as the values do. */
static int32_t f32_order(uint32_t v) {
    if (f32_is_nan(v)) return INT32_MIN;
    return (v & F32_SIGN) == 0 ? (int32_t)v : -(int32_t)(v & ~F32_SIGN);
}
