"""Decide at build time whether the executable has a start of its own (start.c), or that of the C library.

start.c calls internal functions of glibc. So it is used only with versions of glibc whose start was compared with it,
and only if the symbols of that start in the installed archive are the expected ones: a distribution may build the same
version with other features, such as shadow stacks.
"""

import platform
import subprocess
from pathlib import Path

# The symbols that glibc's start defines or uses, in all known versions.
COMMON = """
    _GLOBAL_OFFSET_TABLE_ __cxa_atexit __environ __fini_array_end __fini_array_start __init_array_end
    __init_array_start __libc_check_standard_fds __libc_early_init __libc_enable_secure __libc_fatal __libc_init_first
    __libc_setup_tls __libc_stack_end __libc_start_main __libc_start_main_impl __nptl_deallocate_tsd __nptl_nthreads
    __preinit_array_end __preinit_array_start __pthread_initialize_minimal __rela_iplt_end __rela_iplt_start
    __tunable_get_val __tunable_set_val __tunables_init __x86_data_cache_size __x86_data_cache_size_half
    __x86_rep_movsb_stop_threshold __x86_rep_movsb_threshold __x86_rep_stosb_threshold __x86_shared_cache_size
    __x86_shared_cache_size_half __x86_shared_non_temporal_threshold __x86_string_control _dl_aux_init
    _dl_debug_initialize _dl_hwcap _dl_minsigstacksize _dl_platform _dl_random _dl_relocate_static_pie
    _dl_tunable_set_hwcaps _dl_x86_cpu_features _fini _init _setjmp exit
""".split()
NEWER = """
    __libc_assert_fail __tunable_is_initialized __x86_memset_non_temporal_threshold _dl_hwcap2
    _dl_runtime_resolve_fxsave _dl_runtime_resolve_xsave _dl_runtime_resolve_xsavec _dl_x86_64_runtime_resolve
    _dl_x86_features_tlsdesc_state_size
""".split()
KNOWN = {
    "2.36": {*COMMON, "__assert_fail"},  # Debian 12
    "2.41": {*COMMON, *NEWER},  # Debian 13
    "2.43": {*COMMON, *NEWER},  # Debian sid in 2026
}


def reason_against_start(compiler: list[str], archive: Path) -> str:
    """Return why start.c can't be used with this archive of the C library; "" if it can."""
    if platform.machine() != "x86_64":
        return "start.c is for x86-64 only"
    version = _version(compiler)
    if version not in KNOWN:
        return f"glibc {version} is unknown" if version else "the C library is not glibc"
    different = KNOWN[version] ^ _symbols(compiler, archive)
    return f"the start of this glibc {version} differs: {' '.join(sorted(different))}" if different else ""


def _version(compiler: list[str]) -> str:
    """The version of glibc that the compiler's headers belong to; "" if it is another library."""
    source = "#include <features.h>\n#ifdef __GLIBC__\n__GLIBC__ . __GLIBC_MINOR__\n#endif\n"
    command = [*compiler, "-E", "-P", "-x", "c", "-"]
    result = subprocess.run(command, input=source, stdout=subprocess.PIPE, text=True, check=True)
    return result.stdout.replace(" ", "").strip()


def _symbols(compiler: list[str], archive: Path) -> set[str]:
    """The global symbols of glibc's start, defined or not."""
    tool = subprocess.check_output([*compiler, "-print-prog-name=nm"], text=True).strip()
    command = [tool, "--extern-only", str(archive)]
    listing = subprocess.check_output(command, stderr=subprocess.DEVNULL, text=True)  # it reports members without any
    _, _, members = listing.partition("\nlibc-start.o:\n")
    return {line.split()[-1] for line in members.partition("\n\n")[0].splitlines()}
