/* A program of 32-bit Arm without a C library: makes system calls, and prints the result of each in hexadecimal.
 *
 *   arm NUMBER[:FIRST ARGUMENT]...
 */
__asm__(".globl _start\n"
        "_start:\n"
        "    mov r0, sp\n"
        "    bl begin\n");

static int call(unsigned int number, unsigned int a, unsigned int b, unsigned int c)
{
    register unsigned int r7 __asm__("r7") = number;
    register unsigned int r0 __asm__("r0") = a;
    register unsigned int r1 __asm__("r1") = b;
    register unsigned int r2 __asm__("r2") = c;
    __asm__ volatile("svc 0" : "+r"(r0) : "r"(r7), "r"(r1), "r"(r2) : "memory");
    return (int)r0;
}

static const char *read_number(const char *text, unsigned int *number)
{
    for (*number = 0; *text >= '0' && *text <= '9'; text++)
        *number = *number * 10 + (unsigned int)(*text - '0');
    return text;
}

static void print(unsigned int number)
{
    char line[9];
    for (int digit = 0; digit < 8; digit++)
        line[digit] = "0123456789abcdef"[number >> (28 - 4 * digit) & 15];
    line[8] = '\n';
    call(4, 1, (unsigned int)line, sizeof line);
}

__attribute__((noreturn, used)) static void begin(char **stack)
{
    for (char **argument = stack + 2; *argument; argument++) {
        unsigned int number, first = 0;
        const char *rest = read_number(*argument, &number);
        if (*rest == ':')
            read_number(rest + 1, &first);
        print((unsigned int)call(number, first, 0, 0));
    }
    for (;;)
        call(1, 0, 0, 0);
}
