/* The helper's bytes, for the extension and the executable. PYOCI_HELPER is its path as a string. */
__asm__(".pushsection .rodata\n"
        ".balign 64\n"
        ".globl pyoci_helper_image, pyoci_helper_image_end\n"
        ".hidden pyoci_helper_image, pyoci_helper_image_end\n"
        "pyoci_helper_image: .incbin \"" PYOCI_HELPER "\"\n"
        "pyoci_helper_image_end:\n"
        ".popsection\n");
