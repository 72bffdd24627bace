#if defined(__GNUC__) && defined(__thumb2__)
#define HAS_THUMB2 1
/*
 * The hot loops for processors with Thumb-2, where a compiler would spill registers and load words one by one. They do what
 * the C below does.
 */
#define FUNCTION(name, body) \
    __asm__(".syntax unified\n .thumb\n .section .text." #name ",\"ax\",%progbits\n .balign 4\n .thumb_func\n .type " #name \
            ", %function\n" #name ":\n" body " .size " #name ", .-" #name "\n .text\n");

#if USE_TERNARY
/* Two columns. r0: table, r1: x0, r2: x1, r3: x2, r12: lift; r4, r5: x0*w0 + x1*w1, r6, r7: x2, r8, r9: x1, r10, r11: an entry. */
#define ENTRIES_3(at) \
    "sub r10, r4, r6\n sub r11, r5, r7\n strd r10, r11, [r0, #" #at "]\n strd r4, r5, [r0, #" #at " + 16]\n" \
    "add r10, r4, r6\n add r11, r5, r7\n strd r10, r11, [r0, #" #at " + 32]\n"
#define NEXT_X1 "add r4, r4, r8\n add r5, r5, r9\n"
#define ENTRIES_9(at) ENTRIES_3(at) NEXT_X1 ENTRIES_3(at + 48) NEXT_X1 ENTRIES_3(at + 96)
FUNCTION(build,
    "push {r4-r11, lr}\n ldr r12, [sp, #36]\n add lr, r0, #16\n"
    "1:\n ldrd r4, r5, [r1]\n ldrd r8, r9, [r2], #8\n ldrd r6, r7, [r3], #8\n"
    "sub r4, r12, r4\n sub r5, r12, r5\n sub r4, r4, r8\n sub r5, r5, r9\n" ENTRIES_9(0)
    "sub r4, r12, r8\n sub r5, r12, r9\n" ENTRIES_9(144)
    "ldrd r4, r5, [r1], #8\n add r4, r4, r12\n add r5, r5, r12\n sub r4, r4, r8\n sub r5, r5, r9\n" ENTRIES_9(288)
    "add r0, r0, #8\n cmp r0, lr\n bne 1b\n pop {r4-r11, pc}\n")
void build(uint32_t *t, const uint32_t *x0, const uint32_t *x1, const uint32_t *x2, uint32_t lift);

/* r0: sums, r1, r12, lr: tables, r2: weights, r3: a halfword; r4-r7: four sums, r8-r11: an entry; end of the sums: stack. */
#define ENTRY(table, to) "add r8, " #table ", r8, lsl #4\n ldm r8, " to "\n"
#define SUM_4 "add r4, r4, r8\n add r5, r5, r9\n add r6, r6, r10\n add r7, r7, r11\n"
#define NINE(name, before, first) \
    FUNCTION(name, "push {r3-r11, lr}\n add r12, r1, #432\n add lr, r1, #864\n" \
        "1:\n ldrh r3, [r2], #2\n" before "and r8, r3, #31\n" first "ubfx r8, r3, #5, #5\n" ENTRY(r12, "{r8-r11}") SUM_4 \
        "lsr r8, r3, #10\n" ENTRY(lr, "{r8-r11}") SUM_4 "ldr r8, [sp]\n stm r0!, {r4-r7}\n cmp r0, r8\n bne 1b\n" \
        "mov r0, r2\n pop {r3-r11, pc}\n") \
    const uint16_t *name(uint32_t *sums, const uint32_t *t, const uint16_t *w, const uint32_t *end);
NINE(add_nine, "ldm r0, {r4-r7}\n", ENTRY(r1, "{r8-r11}") SUM_4)
NINE(set_nine, "", ENTRY(r1, "{r4-r7}"))
#endif

#if USE_DEPTHWISE_TERNARY
/* r0: patch, 24 bytes a row, r1: nine weights, r2: sums, r3: rows of tiles; on the stack bytes to the next tile's patch and
 * sums. r4-r7: four sums, r8-r12, lr: a row of the patch, r3: a weight. */
#define TIMES(a, b, c, d) \
    "ldrsb r3, [r1], #1\n mla r4, r3, " #a ", r4\n mla r5, r3, " #b ", r5\n mla r6, r3, " #c ", r6\n mla r7, r3, " #d ", r7\n"
#define PATCH_ROW(at) \
    "add r3, r0, #" #at "\n ldm r3, {r8-r12, lr}\n" TIMES(r8, r9, r10, r11) TIMES(r9, r10, r11, r12) TIMES(r10, r11, r12, lr)
FUNCTION(depthwise_3,
    "push {r3-r11, lr}\n"
    "1:\n mov r4, #0x40004000\n mov r5, r4\n mov r6, r4\n mov r7, r4\n" PATCH_ROW(0) PATCH_ROW(24) PATCH_ROW(48)
    "ldrd r8, r9, [sp, #40]\n ldr r3, [sp]\n sub r1, r1, #9\n stm r2, {r4-r7}\n add r0, r0, r8\n add r2, r2, r9\n"
    "subs r3, r3, #1\n str r3, [sp]\n bne 1b\n pop {r3-r11, pc}\n")
void depthwise_3(const uint32_t *patch, const int8_t *weights, uint32_t *sums, int rows, int next_patch, int next_sums);
#endif

#if USE_SHORT && HAS_DSP
/* r0: sums, r1, r2: lines and their end, r3, r4: codes of both lanes, r5-r7: distances of columns, r8, r9: a line, r10,
 * r11: sums, r12, lr: codes. */
#define LINE_2(v, shift, at) \
    "smlawb r12, r8, " #v ", r9\n smlawt lr, r8, " #v ", r9\n usat r12, #8, r12, asr #" #shift "\n usat lr, #8, lr, asr #" #shift \
    "\n strb r12, [r3" at "]\n strb lr, [r4" at "]\n"
#define LINES(name, shift, flip) \
    FUNCTION(name, \
        "push {r4-r12, lr}\n ldrd r5, r4, [sp, #40]\n lsl r6, r5, #1\n add r7, r6, r5\n" \
        "1:\n ldrd r8, r9, [r1], #8\n ldrd r10, r11, [r0], #8\n" flip LINE_2(r10, shift, "") LINE_2(r11, shift, ", r5") \
        "ldrd r10, r11, [r0], #8\n" flip LINE_2(r10, shift, ", r6") LINE_2(r11, shift, ", r7") \
        "add r3, r3, #1\n add r4, r4, #1\n cmp r1, r2\n bne 1b\n pop {r4-r12, pc}\n") \
    void name(const uint32_t *sums, const int32_t *line, const int32_t *end, uint8_t *out, uint32_t col, uint8_t *second);
#define FLIP "eor r10, r10, #0x80008000\n eor r11, r11, #0x80008000\n"
#if USE_SHIFT_14
LINES(lines_14, 14, "")
#endif
#if USE_SHIFT_14_FLIPPED
LINES(flipped_14, 14, FLIP)
#endif
#if USE_SHIFT_11
LINES(lines_11, 11, "")
#endif
#if USE_SHIFT_11_FLIPPED
LINES(flipped_11, 11, FLIP)
#endif
#if USE_SHIFT_8
LINES(lines_8, 8, "")
#endif
#if USE_SHIFT_8_FLIPPED
LINES(flipped_8, 8, FLIP)
#endif
#if USE_SHIFT_5
LINES(lines_5, 5, "")
#endif
#if USE_SHIFT_5_FLIPPED
LINES(flipped_5, 5, FLIP)
#endif
#endif
#endif
