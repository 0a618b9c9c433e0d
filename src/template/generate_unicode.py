#!/usr/bin/env python3
"""Writes unicode_tables.c: which code points are letters or digits, which are printable (Go's unicode.IsPrint),
and the one-to-one upper and lower case mappings, from the Unicode data that comes with Python."""
import sys
import unicodedata

MAX = 0x110000


def ranges(test):
    out, start = [], None
    for code in range(MAX + 1):
        inside = code < MAX and test(chr(code))
        if inside and start is None:
            start = code
        elif not inside and start is not None:
            out.append((start, code - 1))
            start = None
    return out


def alphanumeric(c):
    category = unicodedata.category(c)
    return c == "_" or category[0] == "L" or category == "Nd"


def printable(c):
    return c == " " or unicodedata.category(c)[0] in "LMNPS"


def simple(c, method):
    mapped = getattr(c, method)()
    if len(mapped) != 1:
        mapped = c.title() if method == "upper" and len(c.title()) == 1 else c
    if c == "\u0130" and method == "lower":
        mapped = "i"
    return ord(mapped)


def case_runs(method):
    """Runs of code points with the same distance to their mapping, 1 or 2 apart."""
    pairs = [(code, simple(chr(code), method) - code) for code in range(MAX) if not 0xD800 <= code <= 0xDFFF]
    pairs = [pair for pair in pairs if pair[1]]
    runs = []
    for code, delta in pairs:
        if runs:
            run = runs[-1]
            step = code - run[1]
            if run[3] == delta and step in (1, 2) and run[2] in (0, step):
                run[1], run[2] = code, step
                continue
        runs.append([code, code, 0, delta])
    return [(low, high, step or 1, delta) for low, high, step, delta in runs]


def write_ranges(out, name, rows):
    out.write("const struct unicode_range %s[] = {\n" % name)
    for i in range(0, len(rows), 4):
        out.write("\t" + " ".join("{0x%x, 0x%x}," % row for row in rows[i:i + 4]) + "\n")
    out.write("};\nconst size_t %s_count = ARRAY_LEN(%s);\n\n" % (name, name))


def write_runs(out, name, rows):
    out.write("const struct unicode_case %s[] = {\n" % name)
    for i in range(0, len(rows), 4):
        out.write("\t" + " ".join("{0x%x, 0x%x, %d, %d}," % row for row in rows[i:i + 4]) + "\n")
    out.write("};\nconst size_t %s_count = ARRAY_LEN(%s);\n\n" % (name, name))


def main():
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        out.write("/* Written by generate_unicode.py from Unicode %s: run it again rather than editing this. */\n"
                  "/* clang-format off */\n#include \"template/unicode.h\"\n\n" % unicodedata.unidata_version)
        write_ranges(out, "unicode_alphanumeric", ranges(alphanumeric))
        write_ranges(out, "unicode_printable", ranges(printable))
        write_runs(out, "unicode_upper", case_runs("upper"))
        write_runs(out, "unicode_lower", case_runs("lower"))


main()
