"""Nearly all of the suite's time is compilation of programs that run for milliseconds: without LLVM's optimizations it takes 40 % less, and with the older
way of writing fused loops that jaxlib had until 0.10 again 40 % less. A program is not cut into 32 parts for threads to compile: the suite keeps all
cores busy as it is, and 30 % of a compilation went into the cutting. Users' programs are compiled with all of that: of the `slow` tests one runs a
whole command so.
"""

from importlib.metadata import version

_OLDER = tuple(map(int, version("jaxlib").split(".")[:2])) <= (0, 10)  # a newer one ends the process for a flag that it does not have

FLAGS = "--xla_backend_optimization_level=0 --xla_cpu_opt_preset=CPU_OPT_PRESET_FAST_COMPILE --xla_cpu_parallel_codegen_split_count=1"
FLAGS += " --xla_cpu_use_fusion_emitters=false" if _OLDER else ""
