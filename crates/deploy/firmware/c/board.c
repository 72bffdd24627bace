/*
 * What a self-test needs of a bare Cortex-M4 in an emulator: start-up, `printf` through semihosting, an exit code, and the
 * number of instructions each step took. With `-icount shift=0` an instruction takes one virtual nanosecond, and SysTick
 * counts at 25 MHz, so a tick is 40 instructions. Instructions, not cycles.
 */
#include <stdint.h>
#include <stdio.h>

extern uint32_t data_start, data_end, data_load, bss_start, bss_end, stack_top;
int main(void);

#define SYST_CSR (*(volatile uint32_t *)0xe000e010)
#define SYST_RVR (*(volatile uint32_t *)0xe000e014)
#define SYST_CVR (*(volatile uint32_t *)0xe000e018)
#define INSTRUCTIONS_PER_TICK 40u
#define TICKS 0x1000000u

static int semihost(int operation, const void *argument) {
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static void __attribute__((noreturn)) leave(int code) {
    /* SYS_EXIT_EXTENDED with ADP_Stopped_ApplicationExit. */
    uint32_t block[2];
    block[0] = 0x20026, block[1] = (uint32_t)code;
    for (;;) semihost(0x20, block);
}

/* newlib's calls to the outside; only writing does something. */
int _write(int file, const char *text, int length) {
    int i;
    char two[2] = {0, 0};
    (void)file;
    for (i = 0; i < length; i++) {
        two[0] = text[i];
        semihost(0x04, two);
    }
    return length;
}
int _read(int file, char *to, int length) { (void)file, (void)to, (void)length; return 0; }
int _close(int file) { (void)file; return -1; }
int _lseek(int file, int at, int whence) { (void)file, (void)at, (void)whence; return 0; }
int _isatty(int file) { (void)file; return 1; }
int _fstat(int file, void *to) { (void)file, (void)to; return -1; }
int _kill(int process, int number) { (void)process, (void)number; return -1; }
int _getpid(void) { return 1; }
void _exit(int code) { leave(code); }
void *_sbrk(int more) {
    extern char end;
    static char *at = &end;
    char *was = at;
    at += more;
    return was;
}

/* Ticks of each step, summed over all runs. */
static uint32_t last;
static uint64_t ticks[64];
static int steps;

/* After step `step`; -1 when a run starts, so that what the self-test does in between is not counted. */
void ternion_step_done(int step) {
    uint32_t now = SYST_CVR;
    if (step >= 0 && step < 64) ticks[step] += (last - now) & (TICKS - 1);
    if (step >= steps) steps = step + 1;
    last = SYST_CVR;
}

static void report(void) {
    int i;
    for (i = 0; i < steps && i < 64; i++)
        printf("step %d: %lu instructions\n", i, (unsigned long)(ticks[i] * INSTRUCTIONS_PER_TICK));
}

void reset(void) {
    uint32_t *from = &data_load, *to;
    int code;
    for (to = &data_start; to < &data_end;) *to++ = *from++;
    for (to = &bss_start; to < &bss_end;) *to++ = 0;
    SYST_RVR = TICKS - 1;
    SYST_CVR = 0;
    SYST_CSR = 5;
    code = main();
    report();
    fflush(stdout);
    leave(code);
}

static void fault(void) { leave(99); }

__attribute__((section(".vectors"), used)) static void *const vectors[16] = {
    &stack_top, (void *)reset, (void *)fault, (void *)fault, (void *)fault, (void *)fault, (void *)fault};
