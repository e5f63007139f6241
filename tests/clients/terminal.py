"""Runs a program in a terminal of its own, presses `q` once it has drawn its table twice, and says how both are then:
exit status, the terminal's mode restored. Prints what was drawn."""

import os
import pty
import select
import subprocess
import sys
import termios
import time

terminal, programs_side = pty.openpty()
before = termios.tcgetattr(programs_side)
program = subprocess.Popen(sys.argv[1:], stdin=programs_side, stdout=programs_side, stderr=programs_side)
drawn, start, pressed = b"", time.monotonic(), False
while program.poll() is None and time.monotonic() - start < 30:
    if select.select([terminal], [], [], 0.1)[0]:
        drawn += os.read(terminal, 65536)
    if drawn.count(b"REQ/S") >= 2 and not pressed:
        during = termios.tcgetattr(programs_side)
        assert not during[3] & termios.ICANON, "keys are read as they are pressed"
        os.write(terminal, b"q")
        pressed = True
if program.poll() is None:
    program.kill()
assert pressed, drawn
assert program.wait() == 0, program.returncode
assert termios.tcgetattr(programs_side) == before, "the terminal is as it was"
print(drawn.decode())
