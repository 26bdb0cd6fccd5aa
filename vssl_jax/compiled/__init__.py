"""What a compiled program costs, read from its text: FLOPs, memory traffic and collectives, loops counted in full.

    hlo.py        text -> computations of instructions
    loops.py      how often a loop runs
    flops.py      matrix products and convolutions
    traffic.py    bytes between an instruction and the device's memory
    account.py    the whole program: both, and the collectives, each times the turns of the loops around it
    roofline.py   an account on a chip: the least time that a step can take

The one idea: the compiler's own text says what a device will do, and it is there for hardware that is not. The compiler's cost analysis
counts the body of a loop once, whatever its length, which for scanned layers is a twelfth of ViT-B.
"""
