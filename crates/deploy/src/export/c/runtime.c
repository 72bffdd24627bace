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

enum { CODES, TERNARY, INT8, DEPTHWISE_TERNARY, DEPTHWISE_INT8, DENSE_TERNARY, DENSE_INT8 };
/* Marks in place of a fixed-point shift; 64 added to a shift says that the line may leave 32 bits. */
enum { RISING = 0x80, FALLING = 0x81, FLOAT = 0x82 };
/* In place of a multiplier: a channel without a line on 16-bit sums. */
#define NO_LINE INT32_MIN

/* A source of accumulators or, for ternary kernels, of 16-bit sums. Rows and columns are those of the tile's orientation. */
typedef struct {
    uint8_t kind, wide, zero_point, by_rows;
    uint32_t input;            /* offset in the arena, bytes */
    uint16_t in_h, in_w, in_c, out_c;
    uint32_t in_row, in_col;   /* elements between rows, columns */
    uint8_t kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left;
    uint16_t halfwords, flush; /* ternary convolutions: weights of a channel, and after how many 16-bit sums must be emptied */
    uint32_t lift;             /* what table entries are larger by, in both lanes, so that no sum is negative */
    int32_t total_lift;        /* and sums of all halfwords */
    const void *weights;
    const int32_t *correction; /* per channel zero point times sum of weights, or null */
    const uint32_t *scale, *bias, *a, *b; /* f32 bits, where the epilogue is f32; absent ones null */
} branch_t;

/* One step that ends in codes. */
typedef struct {
    branch_t branch[2];
    uint8_t branches, rows, lane_y, lane_x, max; /* rows of tiles at a time */
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
    const int32_t *lines;      /* 16-bit sums: multipliers and offsets, */
    uint8_t fraction, flip;    /* their fractional bits, and whether they are for sums less 2^15 */
} step_t;

typedef struct {
    uint16_t in_w, out_h, out_w, channels, kernel_h, kernel_w, stride_h, stride_w;
    uint32_t input, output;
} pool_t;

#if HAS_DSP
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
/* Lower halfword of `low` and lower of `high`; upper and upper. */
static inline uint32_t lower_halves(uint32_t low, uint32_t high) {
    uint32_t r;
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(r) : "r"(low), "r"(high));
    return r;
}
static inline uint32_t upper_halves(uint32_t low, uint32_t high) {
    uint32_t r;
    __asm__("pkhtb %0, %2, %1, asr #16" : "=r"(r) : "r"(low), "r"(high));
    return r;
}
#else
static inline uint32_t uxtb16(uint32_t v) { return v & 0x00ff00ffu; }
static inline uint32_t uxtb16_odd(uint32_t v) { return v >> 8 & 0x00ff00ffu; }
static inline uint32_t lower_halves(uint32_t low, uint32_t high) { return (low & 0xffffu) | high << 16; }
static inline uint32_t upper_halves(uint32_t low, uint32_t high) { return low >> 16 | (high & 0xffff0000u); }
#endif

static inline uint32_t word_of(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}

#if USE_TERNARY || USE_DEPTHWISE_TERNARY
/* ---- reading the patch of a tile ---- */

/* Pixels of `n` words, a row each of both lanes: lane 0 of output (oy, ox), kernel row `ky`, columns `kx`, `kx + move`, ….
 * Beyond the border they are zero points. */
static const uint8_t **find(const branch_t *b, const step_t *s, int oy, int ox, int ky, int kx, int n, int move,
                            const uint8_t **to) {
    const uint8_t *in = (const uint8_t *)arena + b->input;
    int lane, i, width;
    int32_t next = move * (int32_t)b->in_col;
    for (lane = 0; lane < 2; lane++) {
        int y = (oy + lane * s->lane_y) * b->stride_h + ky - b->pad_top;
        int x = (ox + lane * s->lane_x) * b->stride_w + kx - b->pad_left;
        int32_t at = y * (int32_t)b->in_row + x * (int32_t)b->in_col;
        const uint8_t **p = to + lane;
        if (y >= 0 && y < b->in_h && x >= 0 && x + (n - 1) * move < b->in_w) {
            const uint8_t *from = in + at;
            for (i = n; i > 0; i--, from += next, p += 2) *p = from;
            continue;
        }
        width = y < 0 || y >= b->in_h ? 0 : b->in_w;
        for (i = 0; i < n; i++, x += move, at += next, p += 2)
            *p = (unsigned)x < (unsigned)width ? in + at : (const uint8_t *)pad_pixel;
    }
    return to + 2 * n;
}

/* Codes of channel `c` at `n` words. */
static APART void read_1(const uint8_t *const *p, int n, uint32_t *x, int c) {
    do {
        *x++ = p[0][c] | (uint32_t)p[1][c] << 16;
        p += 2;
    } while (--n);
}

/* Codes of four channels from `c` on, each channel's words `apart` from the one's before. */
static APART void read_4(const uint8_t *const *p, int n, uint32_t *x, int apart, int c) {
    do {
        uint32_t a = word_of(p[0] + c), b = word_of(p[1] + c), a0 = uxtb16(a), b0 = uxtb16(b);
        a = uxtb16_odd(a), b = uxtb16_odd(b);
        x[0] = lower_halves(a0, b0);
        x[apart] = lower_halves(a, b);
        x[2 * apart] = upper_halves(a0, b0);
        x[3 * apart] = upper_halves(a, b);
        x++, p += 2;
    } while (--n);
}

/* Moves 16-bit sums to `acc`: on top of what is there or, the first time, as the first, less what they are lifted by and
 * `correction` if there is one. */
static APART void empty(int32_t *acc, const uint32_t *sums, int32_t lift, const int32_t *correction, int channels, int first) {
    const uint32_t *end = sums + 4 * channels;
    if (!first) {
        for (; sums != end; acc += 8, sums += 4) {
            uint32_t s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
            acc[0] += (uint16_t)s0, acc[1] += (uint16_t)s1, acc[2] += (uint16_t)s2, acc[3] += (uint16_t)s3;
            acc[4] += s0 >> 16, acc[5] += s1 >> 16, acc[6] += s2 >> 16, acc[7] += s3 >> 16;
        }
        return;
    }
    for (; sums != end; acc += 8, sums += 4) {
        uint32_t s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
        int32_t less = lift + (correction ? *correction++ : 0);
        acc[0] = (uint16_t)s0 - less, acc[1] = (uint16_t)s1 - less, acc[2] = (uint16_t)s2 - less, acc[3] = (uint16_t)s3 - less;
        acc[4] = (int32_t)(s0 >> 16) - less, acc[5] = (int32_t)(s1 >> 16) - less;
        acc[6] = (int32_t)(s2 >> 16) - less, acc[7] = (int32_t)(s3 >> 16) - less;
    }
}
#endif

@THUMB2@
#if USE_TERNARY
/* ---- ternary convolution ---- */

#if !HAS_THUMB2
/* The 27 sums of one group, four words each, all larger by `lift`; entry 9 * (w0 + 1) + 3 * (w1 + 1) + w2 + 1. */
static void build(uint32_t *t, const uint32_t *x0, const uint32_t *x1, const uint32_t *x2, uint32_t lift) {
    int k, i, j;
    for (k = 0; k < 4; k++, t++) {
        uint32_t p = lift - x0[k] - x1[k], *o = t;
        for (i = 0; i < 3; i++) {
            for (j = 0; j < 3; j++, o += 12) {
                o[0] = p - x2[k], o[4] = p, o[8] = p + x2[k];
                p += x1[k];
            }
            p += x0[k] - 3 * x1[k];
        }
    }
}

/* Adds a halfword of weights to each channel's sums up to `end`: three neighbouring tables, an entry of each. */
static const uint16_t *add_nine(uint32_t *sums, const uint32_t *t, const uint16_t *w, const uint32_t *end) {
    for (; sums != end; sums += 4) {
        uint32_t v = *w++;
        const uint32_t *e = t + 4 * (v & 31u), *f = t + 108 + 4 * (v >> 5 & 31u), *g = t + 216 + 4 * (v >> 10);
        sums[0] += e[0] + f[0] + g[0], sums[1] += e[1] + f[1] + g[1];
        sums[2] += e[2] + f[2] + g[2], sums[3] += e[3] + f[3] + g[3];
    }
    return w;
}

/* The same for the first halfword. */
static const uint16_t *set_nine(uint32_t *sums, const uint32_t *t, const uint16_t *w, const uint32_t *end) {
    uint32_t *to;
    for (to = sums; to != end; to++) *to = 0;
    return add_nine(sums, t, w, end);
}
#endif

/* 16-bit sums of a run: to `sums`, and through `acc` where they must be emptied on the way; `n` rows of all channels. */
typedef struct {
    uint32_t *sums;
    int32_t *acc;
    int since, first;
} run_t;

static void emptied(run_t *run, const branch_t *b, int n) {
    int r;
    for (r = 0; r < n; r++)
        empty(run->acc + 8 * r * b->out_c, run->sums + 4 * r * b->out_c, b->total_lift, b->correction, b->out_c, run->first);
    run->since = 0, run->first = 0;
}

/* 3x3 kernels: the three kernel rows of a channel are a halfword. `n` rows of tiles share the tables of their rows. */
static void ternary_rows(const branch_t *b, const step_t *s, int oy, int ox, int n, run_t *run) {
    const uint16_t *w = (const uint16_t *)b->weights, *next = w;
    const uint8_t **p = (const uint8_t **)pixels;
    int words = b->stride_w == 1 ? 6 : 9, x1 = b->stride_w == 1 ? 1 : 5, x2 = b->stride_w == 1 ? 2 : 1;
    int step = b->stride_h * (1 + s->lane_y), count = (n - 1) * step + 3, all = count * words, size = 4 * b->out_c;
    int four = b->in_c % 4 == 0, c, i;
    for (i = 0; i < count; i++) {
        if (words == 6) p = find(b, s, oy, ox, i, 0, 6, 1, p);
        else p = find(b, s, oy, ox, i, 0, 5, 2, p), p = find(b, s, oy, ox, i, 1, 4, 2, p);
    }
    for (c = 0; c < b->in_c; c++, w = next) {
        const uint32_t *x = patch + (four ? c % 4 * all : 0);
        if (!four) read_1((const uint8_t *const *)pixels, all, patch, c);
        else if (c % 4 == 0) read_4((const uint8_t *const *)pixels, all, patch, all, c);
        for (i = 0; i < count; i++, x += words) build(table + 108 * i, x, x + x1, x + x2, b->lift);
        for (i = 0; i < n; i++) {
            uint32_t *to = run->sums + i * size, *t = table + 108 * step * i;
            next = run->since ? add_nine(to, t, w, to + size) : set_nine(to, t, w, to + size);
        }
        if (++run->since == b->flush && c + 1 < b->in_c) emptied(run, b, n);
    }
}

/* Any other kernel: nine neighbouring elements, channels of the first tap first, are a halfword. */
static void ternary_list(const branch_t *b, const step_t *s, int oy, int ox, run_t *run) {
    const uint16_t *w = (const uint16_t *)b->weights;
    const uint8_t **p = (const uint8_t **)pixels;
    uint32_t *end = run->sums + 4 * b->out_c;
    int ky, kx, h, i, c = 0, left = b->kernel_h * b->kernel_w * b->in_c, four = b->in_c % 4 == 0;
    for (ky = 0; ky < b->kernel_h; ky++)
        for (kx = 0; kx < b->kernel_w; kx++) p = find(b, s, oy, ox, ky, kx, 4, b->stride_w, p);
    p = (const uint8_t **)pixels;
    for (h = 0; h < b->halfwords; h++) {
        /* Four halfwords' elements at a time, so that four channels can be read at once. */
        uint32_t *x = patch + h % 4 * 36;
        if (h % 4 == 0)
            for (i = 0; i < 36; i += four ? 4 : 1) {
                if (left == 0) {
                    memset(x + 4 * i, 0, four ? 64 : 16);
                    continue;
                }
                if (four) read_4((const uint8_t *const *)p, 4, x + 4 * i, 4, c), c += 4, left -= 4;
                else read_1((const uint8_t *const *)p, 4, x + 4 * i, c), c++, left--;
                if (c == b->in_c) c = 0, p += 8;
            }
        for (i = 0; i < 3; i++, x += 12) build(table + 108 * i, x, x + 4, x + 8, b->lift);
        w = run->since ? add_nine(run->sums, table, w, end) : set_nine(run->sums, table, w, end);
        if (++run->since == b->flush && h + 1 < b->halfwords) emptied(run, b, 1);
    }
}
#endif

#if USE_DEPTHWISE_TERNARY
/* ---- ternary depthwise convolution: both lanes times a weight in one multiplication ---- */

static APART void depthwise_channel(const branch_t *b, const uint32_t *x, int words, int step, const int8_t *weights, int n,
                                    uint32_t *sums) {
    for (; n > 0; n--, x += step * words, sums += 4 * b->out_c) {
        uint32_t s0 = 0x40004000u, s1 = s0, s2 = s0, s3 = s0;
        const uint32_t *row = x;
        const int8_t *w = weights;
        int ky, kx, d = b->stride_w;
        for (ky = b->kernel_h; ky > 0; ky--, row += words)
            for (kx = 0; kx < b->kernel_w; kx++, w++) {
                uint32_t u = (uint32_t)*w;
                s0 += u * row[kx], s1 += u * row[kx + d], s2 += u * row[kx + 2 * d], s3 += u * row[kx + 3 * d];
            }
        sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
    }
}

static void depthwise_rows(const branch_t *b, const step_t *s, int oy, int ox, int n, uint32_t *to) {
    const int8_t *w = (const int8_t *)unpacked;
    const uint8_t **p = (const uint8_t **)pixels;
    int words = 3 * b->stride_w + b->kernel_w, step = b->stride_h * (1 + s->lane_y), count = (n - 1) * step + b->kernel_h;
    int all = count * words, four = b->out_c % 4 == 0, c, i;
    for (i = 0; i < count; i++) p = find(b, s, oy, ox, i, 0, words, 1, p);
    for (c = 0; c < b->out_c; c++, to += 4, w += b->kernel_h * b->kernel_w) {
        uint32_t *x = patch + (four ? c % 4 * all : 0);
        if (!four) read_1((const uint8_t *const *)pixels, all, patch, c);
        else if (c % 4 == 0) read_4((const uint8_t *const *)pixels, all, patch, all, c);
#if HAS_THUMB2
        if (b->kernel_h == 3 && b->kernel_w == 3 && b->stride_w == 1) {
            depthwise_3(x, w, to, n, 24 * step, 16 * b->out_c);
            continue;
        }
#endif
        depthwise_channel(b, x, words, step, w, n, to);
    }
}
#endif

#if USE_INT8 || USE_DEPTHWISE_INT8
/* ---- 8-bit weights ---- */

#if HAS_DSP
/* Two products of signed halfwords, added. */
static inline int32_t smlad(uint32_t x, uint32_t w, int32_t acc) {
    int32_t r;
    __asm__("smlad %0, %1, %2, %3" : "=r"(r) : "r"(x), "r"(w), "r"(acc));
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

/* The pixel a position reads, or one of zero points beyond the border. */
static const uint8_t *pixel(const branch_t *b, const uint8_t *in, int y, int x) {
    if (y < 0 || x < 0 || y >= b->in_h || x >= b->in_w) return (const uint8_t *)pad_pixel;
    return in + (uint32_t)y * b->in_row + (uint32_t)x * b->in_col;
}

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

#if USE_DEPTHWISE_INT8
/* Weights `[tap][channel]`; with a multiplier, neighbouring channels read the same one of the input. */
static void depthwise_tile(const branch_t *b, const step_t *s, const uint8_t *in, int oy, int ox, int32_t *acc) {
    const int8_t *weights = (const int8_t *)b->weights;
    int taps = b->kernel_h * b->kernel_w, channels = b->out_c, times = channels / b->in_c, j, k, c;
    find_pixels(b, s, in, oy, ox);
    for (j = 0; j < 8; j++) {
        const uint8_t *const *p = (const uint8_t *const *)pixels + j;
        int32_t *a = acc + j;
        c = 0;
#if HAS_DSP
        for (; times == 1 && c + 4 <= channels; c += 4, a += 32) {
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
            for (k = 0; k < taps; k++) sum += weights[k * channels + c] * p[8 * k][c / times];
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

/* Whether a branch has 16-bit sums. */
static int sixteen(const branch_t *b) { return b->kind == TERNARY || b->kind == DEPTHWISE_TERNARY; }

/* Prepares what a branch's tiles share. */
static void start(const branch_t *b) {
#if USE_TERNARY || USE_INT8 || USE_DEPTHWISE_TERNARY || USE_DEPTHWISE_INT8
    if (b->kind != CODES && b->kind != DENSE_TERNARY && b->kind != DENSE_INT8) memset(pad_pixel, b->zero_point, b->in_c);
#endif
#if USE_DEPTHWISE_TERNARY
    /* Trits, four to a byte, lowest first. */
    if (b->kind == DEPTHWISE_TERNARY) {
        const uint8_t *w = (const uint8_t *)b->weights;
        int i, n = b->kernel_h * b->kernel_w * b->out_c;
        for (i = 0; i < n; i++) ((int8_t *)unpacked)[i] = (int8_t)((w[i / 4] >> 2 * (i % 4) & 3) - 1);
    }
#endif
    (void)b;
}

#if USE_TERNARY || USE_DEPTHWISE_TERNARY
/* 16-bit sums of `n` rows of tiles; accumulators where sums must be emptied. */
static void sum_up(const branch_t *b, const step_t *s, int oy, int ox, int n, uint32_t *to, int32_t *acc) {
#if USE_DEPTHWISE_TERNARY
    if (b->kind == DEPTHWISE_TERNARY) depthwise_rows(b, s, oy, ox, n, to);
#endif
#if USE_TERNARY
    if (b->kind == TERNARY) {
        run_t run = {to, acc, 0, 1};
        int r;
        if (b->by_rows) {
            ternary_rows(b, s, oy, ox, n, &run);
            if (b->flush) emptied(&run, b, n);
        } else {
            for (r = 0; r < n; r++) {
                run.sums = to + 4 * r * b->out_c, run.acc = acc + 8 * r * b->out_c, run.since = 0, run.first = 1;
                ternary_list(b, s, oy + r * (1 + s->lane_y), ox, &run);
                if (b->flush) emptied(&run, b, 1);
            }
        }
    }
#endif
    (void)acc;
}
#endif

/* Accumulators of a tile of any other branch. */
static void accumulate(const branch_t *b, const step_t *s, int oy, int ox, int32_t *acc) {
    const uint8_t *in = (const uint8_t *)arena + b->input;
    int c, j;
    if (b->kind == CODES) {
        for (j = 0; j < 8; j++) {
            int y = oy + (j >> 2) * s->lane_y, x = ox + (j & 3) + (j >> 2) * s->lane_x;
            int32_t *to = acc + j, zero = b->zero_point;
            const uint8_t *from = in + (uint32_t)y * b->in_row + (uint32_t)x * b->in_col, *end = from + b->out_c;
            if (y < b->in_h && x < b->in_w)
                for (; from != end; to += 8) *to = *from++ - zero;
        }
        return;
    }
    for (c = 0; c < b->out_c; c++)
        for (j = 0; j < 8; j++) acc[8 * c + j] = b->correction ? -b->correction[c] : 0;
    switch (b->kind) {
#if USE_INT8
    case INT8: int8_tile(b, s, in, oy, ox, acc); break;
#endif
#if USE_DEPTHWISE_INT8
    case DEPTHWISE_INT8: depthwise_tile(b, s, in, oy, ox, acc); break;
#endif
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
/* 8-bit codes of a tile from its 16-bit sums; columns and lanes are so far apart in `out`. */
static void short_tile(const step_t *s, const uint32_t *v, uint8_t *out, uint32_t col, uint32_t lane) {
    const int32_t *line = s->lines, *end = line + 2 * s->branch[0].out_c;
    uint8_t *second = out + lane;
#if HAS_THUMB2 && HAS_DSP
#define TRY_LINES(shift) \
    if (s->fraction == shift && !s->flip) lines_##shift(v, line, end, out, col, second)
#define TRY_FLIPPED(shift) \
    if (s->fraction == shift && s->flip) flipped_##shift(v, line, end, out, col, second)
#if USE_SHIFT_14
    TRY_LINES(14);
#endif
#if USE_SHIFT_14_FLIPPED
    TRY_FLIPPED(14);
#endif
#if USE_SHIFT_11
    TRY_LINES(11);
#endif
#if USE_SHIFT_11_FLIPPED
    TRY_FLIPPED(11);
#endif
#if USE_SHIFT_8
    TRY_LINES(8);
#endif
#if USE_SHIFT_8_FLIPPED
    TRY_FLIPPED(8);
#endif
#if USE_SHIFT_5
    TRY_LINES(5);
#endif
#if USE_SHIFT_5_FLIPPED
    TRY_FLIPPED(5);
#endif
#else
    int32_t less = s->flip ? 32768 : 0;
    for (; line != end; line += 2, out++, second++) {
        uint32_t at;
        for (at = 0; at != 4 * col; at += col) {
            uint32_t w = *v++;
            int32_t a = (int32_t)((int64_t)((int32_t)(w & 0xffffu) - less) * line[0] >> 16) + line[1];
            int32_t b = (int32_t)((int64_t)((int32_t)(w >> 16) - less) * line[0] >> 16) + line[1];
            a >>= s->fraction, b >>= s->fraction;
            out[at] = (uint8_t)(a < 0 ? 0 : a > 255 ? 255 : a), second[at] = (uint8_t)(b < 0 ? 0 : b > 255 ? 255 : b);
        }
    }
#endif
}

#if USE_MIXED
/* The channels without a line. */
static APART void other_channels(const step_t *s, const uint32_t *v, uint8_t *out, uint32_t col, uint32_t lane) {
    static const uint8_t at[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    const int32_t *correction = s->branch[0].correction;
    int c, j;
    for (c = 0; c < s->branch[0].out_c; c++) {
        int32_t acc[8];
        uint8_t *to[8];
        if (s->lines[2 * c] != NO_LINE) continue;
        empty(acc, v + 4 * c, s->branch[0].total_lift, correction ? correction + c : NULL, 1, 1);
        for (j = 0; j < 8; j++) to[j] = out + (uint32_t)(j & 3) * col + (uint32_t)(j >> 2) * lane;
        codes(s, c, acc, acc, at, to, 8);
    }
}
#endif

static void all_channels(const step_t *s, const uint32_t *v, uint8_t *out, uint32_t col, uint32_t lane) {
    short_tile(s, v, out, col, lane);
#if USE_MIXED
    if (s->shift) other_channels(s, v, out, col, lane);
#endif
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

/* Whether branches need different things prepared. */
static int differ(const step_t *s) {
    const branch_t *a = &s->branch[0], *b = &s->branch[1];
    return s->branches == 2 && (a->zero_point != b->zero_point || a->kind == DEPTHWISE_TERNARY || b->kind == DEPTHWISE_TERNARY);
}

/* The codes of one tile from the sums or accumulators of its branches. */
static void finish(const step_t *s, int oy, int ox, const uint32_t *const *v, int32_t *const *acc) {
    const branch_t *b = s->branch;
    uint8_t *out = (uint8_t *)arena + s->output, *to[8], at[8];
    int i, j, c, count = 0, channels = b->out_c;
#if USE_SHORT
    if (s->lines && oy + s->lane_y < s->out_h && ox + s->lane_x + 3 < s->out_w) {
        out += (uint32_t)oy * s->out_row + (uint32_t)ox * s->out_col;
        all_channels(s, v[0], out, s->out_col, (uint32_t)s->lane_y * s->out_row + (uint32_t)s->lane_x * s->out_col);
        return;
    }
#endif
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
        all_channels(s, v[0], made, (uint32_t)channels, 4 * (uint32_t)channels);
        for (j = 0; j < count; j++) memcpy(to[j], made + at[j] * channels, (size_t)channels);
        return;
    }
#endif
    for (i = 0; i < s->branches; i++) {
        if (!sixteen(&b[i])) {
            if (differ(s)) start(&b[i]);
            accumulate(&b[i], s, oy, ox, acc[i]);
        }
#if USE_TERNARY || USE_DEPTHWISE_TERNARY
        else if (!b[i].flush) {
            empty(acc[i], v[i], b[i].total_lift, b[i].correction, channels, 1);
        }
#endif
    }
    (void)v;
#if USE_FIXED
    if (s->slope) {
        fixed_tile(s, acc[0], acc[1], at, to, count);
        return;
    }
#endif
    if (count == 8 && s->branches == 1 && s->max == 255) whole_tile(s, acc[0], at, to);
    else
        for (c = 0; c < channels; c++) codes(s, c, acc[0] + 8 * c, acc[1] + 8 * c, at, to, count);
}

static void run_step(const step_t *s) {
    const branch_t *b = s->branch;
    int again = differ(s), rows = s->rows, next = 1 + s->lane_y, channels = b->out_c, oy, ox, i, r;
    int emptied_rows = b[0].flush ? rows : 1;
    (void)again;
    start(&b[0]);
    if (s->branches == 2 && b[1].in_c > b[0].in_c) start(&b[1]);
    for (ox = 0; ox < s->out_w; ox += 4 + s->lane_x)
        for (oy = 0; oy < s->out_h; oy += rows * next) {
            int n = (s->out_h - oy + next - 1) / next;
            if (n > rows) n = rows;
#if USE_TERNARY || USE_DEPTHWISE_TERNARY
            for (i = 0; i < s->branches; i++) {
                if (!sixteen(&b[i])) continue;
                if (again) start(&b[i]);
                sum_up(&b[i], s, oy, ox, n, sums + 4 * i * rows * channels, accumulators + 8 * i * emptied_rows * channels);
            }
#endif
            for (r = 0; r < n; r++) {
                const uint32_t *v[2] = {NULL, NULL};
                int32_t *acc[2];
                for (i = 0; i < 2; i++) {
                    acc[i] = accumulators + 8 * (i * emptied_rows + (b[i].flush ? r : 0)) * channels;
#if USE_TERNARY || USE_DEPTHWISE_TERNARY
                    v[i] = sums + 4 * (i * rows + r) * channels;
#endif
                }
                finish(s, oy + r * next, ox, v, acc);
            }
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
