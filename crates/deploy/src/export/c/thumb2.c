#if defined(__GNUC__) && defined(__thumb2__)
#define HAS_THUMB2 1
/*
 * The two hot loops of 3x3 kernels of stride 1 for processors with Thumb-2, where a compiler would spill registers and load
 * words one by one. They do what `build` and `add_triples` do; entries are 32 bytes apart, of which 24 are used.
 */
/* Two columns, from patch rows at r1 (x0), r1 + 24 (x1), r1 + 48 (x2), to the table at r0. r2, r3: x2, r4, r5: x1,
 * r6, r7: x0*w0 + x1*w1, r8, r9: an entry. */
#define ENTRIES_3(at) \
    "sub r8, r6, r2\n sub r9, r7, r3\n strd r8, r9, [r0, #" #at "]\n strd r6, r7, [r0, #" #at " + 32]\n" \
    "add r8, r6, r2\n add r9, r7, r3\n strd r8, r9, [r0, #" #at " + 64]\n"
#define NEXT_X1 "add r6, r6, r4\n add r7, r7, r5\n"
#define ENTRIES_9(at) ENTRIES_3(at) NEXT_X1 ENTRIES_3(at + 96) NEXT_X1 ENTRIES_3(at + 192)

/* void build_3(uint32_t *table, const uint32_t *patch): six columns. */
__asm__(
    ".syntax unified\n .thumb\n .section .text.build_3,\"ax\",%progbits\n .balign 4\n .thumb_func\n .type build_3, %function\n"
    "build_3:\n push {r4-r10}\n add r10, r0, #24\n"
    "1:\n ldrd r4, r5, [r1, #24]\n ldrd r2, r3, [r1, #48]\n ldrd r6, r7, [r1], #8\n"
    "add r6, r6, r4\n add r7, r7, r5\n rsb r6, r6, #0\n rsb r7, r7, #0\n" ENTRIES_9(0)
    "rsb r6, r4, #0\n rsb r7, r5, #0\n" ENTRIES_9(288)
    "ldrd r6, r7, [r1, #-8]\n sub r6, r6, r4\n sub r7, r7, r5\n" ENTRIES_9(576)
    "add r0, r0, #8\n cmp r0, r10\n bne 1b\n pop {r4-r10}\n bx lr\n .size build_3, .-build_3\n .text\n");
void build_3(uint32_t *t, const uint32_t *patch);

/* r0: sums, r1: tables, r2: weights, r3: end of the sums; r4-r7: four sums, r8-r11: an entry, r12, lr: weights. */
#define SUM_4 "add r4, r4, r8\n add r5, r5, r9\n add r6, r6, r10\n add r7, r7, r11\n"
#define TAP_0(w, bits) "ubfx r8, " #w ", #" #bits ", #5\n add r8, r1, r8, lsl #5\n ldm r8, {r8-r11}\n" SUM_4
#define TAP(w, bits, at) \
    "ubfx r8, " #w ", #" #bits ", #5\n add r8, r1, r8, lsl #5\n ldrd r10, r11, [r8, #" #at " + 8]\n" \
    "ldrd r8, r9, [r8, #" #at "]\n" SUM_4
#define NEXT "add r1, r1, #864\n"
#define LOW(w) TAP_0(w, 0) TAP(w, 5, 4) TAP(w, 10, 8)
#define HIGH(w) TAP_0(w, 16) TAP(w, 21, 4) TAP(w, 26, 8)
#define ONE "ldrh r12, [r2], #2\n" LOW(r12)
#define TWO "ldr r12, [r2], #4\n" LOW(r12) NEXT HIGH(r12)
#define FOUR "ldrd r12, lr, [r2], #8\n" LOW(r12) NEXT HIGH(r12) NEXT LOW(lr) NEXT HIGH(lr)
/* const uint16_t *NAME(uint32_t *sums, const uint32_t *t, const uint16_t *w, uint32_t *end) */
#define ADD_TRIPLES(name, body, back) \
    __asm__( \
        ".syntax unified\n .thumb\n .section .text." #name ",\"ax\",%progbits\n .balign 4\n .thumb_func\n .type " #name \
        ", %function\n" #name ":\n push {r4-r11, lr}\n 1:\n ldm r0, {r4-r7}\n" body "sub r1, r1, #" #back \
        "\n stm r0!, {r4-r7}\n cmp r0, r3\n bne 1b\n mov r0, r2\n pop {r4-r11, pc}\n .size " #name ", .-" #name "\n .text\n"); \
    const uint16_t *name(uint32_t *sums, const uint32_t *t, const uint16_t *w, uint32_t *end);
#if USE_CHUNK_1
ADD_TRIPLES(add_triples_1, ONE, 0)
#endif
#if USE_CHUNK_2
ADD_TRIPLES(add_triples_2, TWO, 864)
#endif
#if USE_CHUNK_3
ADD_TRIPLES(add_triples_3, TWO NEXT ONE, 1728)
#endif
#if USE_CHUNK_4
ADD_TRIPLES(add_triples_4, FOUR, 2592)
#endif
#if USE_CHUNK_8
ADD_TRIPLES(add_triples_8, FOUR NEXT FOUR, 6048)
#endif
#endif

