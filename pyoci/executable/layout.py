"""The linker script of the executable: where its code and its data lie.

The image (image.c) is the writable data of our own objects: CPython's, those of the libraries linked with it, and
pyoci's. The script gathers it in a segment of its own. The data of the C library and of the linker stays where it
always lies, outside of the image, so the C library starts in each process as in any other program.

Commands run a tenth of the code. When a process first uses a page, the kernel maps the pages around it, 64 KiB
together. So what commands use lies together: less memory, and fewer faults.
"""

from pathlib import Path

# The linker maps input sections by the first matching line. These lines precede its own script, and add the output
# sections to it. `.image_zero` is the part that the file need not hold; it ends with the memory of heap.c. Data that is
# constant after relocation stays outside, where the process makes it read-only. Constructors of our objects (CPython
# 3.13 has one) run once, before the image is made, and not in each process.
SCRIPT = """\
SECTIONS {{ .hot_code : {{ {hot_code} }} }} INSERT BEFORE .text;
SECTIONS {{ .hot_constants : {{ {hot_constants} }} }} INSERT BEFORE .rodata;
SECTIONS {{ .image_constants : {{ {constants} }} }} INSERT AFTER .data.rel.ro;
SECTIONS {{ .constructors : {{ constructors = .; {constructors} constructors_end = .; }} }} INSERT AFTER .data.rel.ro;
SECTIONS {{ .image_zero : {{ {zero} image_end = .; }} }} INSERT AFTER .bss;
SECTIONS {{ .image : ALIGN(CONSTANT(MAXPAGESIZE)) {{ image_start = .; {writable} }} }} INSERT AFTER .bss;
"""
CONSTRUCTORS = ".preinit_array .init_array .init_array.* .ctors .ctors.*"
WRITABLE = "INPUT_SECTION_FLAGS (SHF_WRITE & SHF_ALLOC & !SHF_TLS) "

# The first address. Addresses and places in the file do not match modulo 2 MiB, so that a process which touches a page
# does not get 2 MiB of it: the kernel maps a huge page of the page cache as a whole.
BASE = 0x410000

# Object files that commands use. Names that an archive lacks do no harm.
HOT_PYTHON = """
    _struct abstract bltinmodule boolobject bytes_methods bytesobject call cellobject ceval classobject codeobject
    descrobject dictobject enumobject errors exceptions fcntlmodule fileutils formatter_unicode frame frameobject
    funcobject gcmodule genobject getargs import iterobject itertoolsmodule listobject longobject marshal methodobject
    modsupport moduleobject object obmalloc posixmodule pyctype pyhash pystate pytime rangeobject selectmodule setobject
    signalmodule sliceobject specialize structmember structseq sysmodule thread traceback tupleobject typeobject
    unicodeobject unionobject weakrefobject
""".split()
HOT_LIBC = """
    *64 *64_nocancel *_chk _exit _itoa access alloca_cutoff brk cancellation clock_* clone close*
    copy_file_range ctype-info cxa_atexit dcigettext dl-* elision-* errname errlist* exit fchmod* fcntl*
    fdopendir fileops gconv_simple genops getauxval getcwd getdents* gete*id getenv getgroups getrandom getuid
    init-* internal_stat* ioctl libc-* libc_* malloc madvise mbs* mem* mmap* mprotect msort open* pthread_* raw*
    read* rewinddir sbrk sem_* setenv setjmp setlocale sig* snprintf* stp* str* syscall sys* tsearch uname
    uselocale vfprintf-internal vsnprintf wait* wcs* wmem* write*
""".split()


def layout(library: str, libraries: list[str], objects: list[str]) -> str:
    """A linker script for an executable of libpython, the libraries that it needs, and pyoci's object files.

    The last object file ends the image.
    """
    own = [f"*/{Path(name).name}" for name in objects]
    python = [f"*{Path(library).name}:{name}.o" for name in HOT_PYTHON]
    libc = [f"*libc.a:{name}.o" for name in HOT_LIBC]
    small = ["*crt*.o", "*libm*.a:*", "*libgcc*.a:*"]
    archives = [f"*{Path(archive).name}:*" for archive in (library, *libraries)]
    return SCRIPT.format(
        # of libpython the functions that CPython's own profile calls hot, if it was built with one
        hot_code=_lines(own, ".text .text.*")
        + _lines(python, ".text.hot .text.hot.* .text")
        + _lines([*libc, *small], ".text")
        + _lines(["*libc.a:*"], ".text.avx .text.avx.* .text.sse*")
        + _lines(python, ".text.unlikely .text.unlikely.*"),
        hot_constants=_lines([*own, *python, *libc], ".rodata .rodata.*"),
        constants=_lines([*archives, *own], ".data.rel.ro .data.rel.ro.*"),
        constructors="".join(f"KEEP({file}({CONSTRUCTORS}))\n" for file in [*archives, *own]),
        zero=_lines([*python, *archives, *own], ".bss .bss.* COMMON"),
        writable=_lines([*own, *python, *archives], "*", WRITABLE),
    )


def _lines(files: list[str], sections: str, flags: str = "") -> str:
    return "".join(f"{flags}{file}({sections})\n" for file in files)
