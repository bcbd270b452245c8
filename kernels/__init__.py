"""Everything that touches an instruction set or a device; installed as ``lreorg_fast.kernels``.

``cpu/`` and ``cuda/`` are C++ and CUDA sources that CMake compiles into ``lreorg_fast._native``;
they have no Python surface of their own.
"""
