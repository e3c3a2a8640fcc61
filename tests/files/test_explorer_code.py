"""Code is read by its grammar, or by patterns that find the same in ordinary code, and the summary says which."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from mnesis.files.explorers import code
from mnesis.files.explorers.code_patterns import outline_by_patterns
from mnesis.files.explorers.source import Source
from tests.files.explored import explored, text_of

needs_grammars = pytest.mark.skipif(find_spec("tree_sitter") is None, reason="needs mnesis-context[files]")

SAMPLES = {
    "a.js": (
        """import fs from 'fs';
// class NotThis {}
/* function norThis() {}
*/
const text = "class NeitherThis {}";
export default class Foo extends Bar {
  constructor(a) { super(a); }
  async run(b, c) {
    if (b) { return c; }
    for (const x of c) { print(x); }
  }
}
export function top(a, b) { return a; }
const arrow = async (x) => x + 1;
function* generate() {}
""",
        ["fs"],
        ["Foo", "Foo.constructor", "Foo.run", "top", "arrow", "generate"],
    ),
    "a.ts": (
        """import { A } from './a';
export interface Shape {
  area(): number;
  name: string;
}
export type Id = string | number;
enum Color { Red, Green }
export abstract class Base<T> {
  private x: number = 1;
  get value(): number { return this.x; }
  abstract go(): void;
}
export const make = (a: number): number => a;
namespace Inner {
  export function help() {}
}
""",
        ["./a"],
        ["Shape", "Shape.area", "Id", "Color", "Base", "Base.value", "Base.go", "make", "Inner", "Inner.help"],
    ),
    "a.tsx": (
        """import React from 'react';
export function View(props: Props) {
  return <div>{props.name}</div>;
}
""",
        ["react"],
        ["View"],
    ),
    "A.java": (
        """package x;
import java.util.List;
public class A extends B implements C {
  private int x = 3;
  public A(int x) { this.x = x; }
  @Override
  public List<String> names(int n) throws Exception {
    return call(n);
  }
  enum E { P, Q }
}
interface I {
  void go();
}
record R(int a) {}
""",
        ["java.util.List"],
        ["A", "A.A", "A.names", "A.E", "I", "I.go", "R"],
    ),
    "a.go": (
        """package main

import (
	"fmt"
	str "strings"
)

type Point struct {
	X, Y int
}
type Op interface { Do() error }

func (p *Point) Move(dx int) error {
	if dx > 0 {
		return nil
	}
	return nil
}
func main() { fmt.Println("func no() {}") }
""",
        ["fmt", "strings"],
        ["Point", "Op", "Move", "main"],
    ),
    "a.rs": (
        """use std::io::{self, Read};
pub struct P { x: i32 }
enum E { A, B }
pub trait T {
    fn go(&self);
}
impl T for P {
    fn go(&self) {}
}
pub async fn f<T>(x: T) -> Result<(), String> { Ok(()) }
mod inner {
    pub fn g() {}
}
macro_rules! m { () => {} }
""",
        ["std::io::{self, Read}"],
        ["P", "E", "T", "T.go", "P", "P.go", "f", "inner", "inner.g", "m"],
    ),
    "a.c": (
        """#include <stdio.h>
#include "x.h"
#ifndef G
#define G 1
struct point { int x; };
int add(int a, int b);
static char *name(void) { return 0; }
enum kind { A, B };
#endif
""",
        ["stdio.h", "x.h"],
        ["point", "add", "name", "kind"],
    ),
    "a.cpp": (
        """#include <vector>
namespace n {
  template <typename T> class Box : public Base {
   public:
    Box();
    ~Box() {}
    virtual int size() const = 0;
    T& get(int i) { return x; }
  };
}
int n::f(int a) { return a; }
template <typename T> T id(T x) { return x; }
""",
        ["vector"],
        ["n", "n.Box", "n.Box.Box", "n.Box.~Box", "n.Box.size", "n.Box.get", "n::f", "id"],
    ),
}


def paths(outline: code.Outline) -> list[str]:
    """Declarations with those they stand in."""
    found: list[str] = []
    above: list[str] = []
    for one in outline.declarations:
        above[one.depth :] = [one.name]
        found.append(".".join(above))
    return found


@needs_grammars
@pytest.mark.parametrize("name", SAMPLES)
def test_grammar_and_patterns_find_the_same(name: str, tmp_path: Path) -> None:
    content, imports, declared = SAMPLES[name]
    path = tmp_path / "content"
    path.write_text(content)
    language = explored(name, content).file_type
    by_grammar = code.build_outline(Source(path, 30), language)
    assert not by_grammar.notes
    assert (by_grammar.imports, paths(by_grammar)) == (imports, declared)
    approximate = outline_by_patterns(language, content)
    assert (approximate.imports, paths(approximate)) == (imports, declared)


@needs_grammars
def test_heads_are_shown_as_written_without_bodies() -> None:
    assert "  class Foo extends Bar\n    constructor(a)\n    async run(b, c)\n  function top(a, b)" in text_of(
        "a.js", SAMPLES["a.js"][0]
    )
    assert "    public List<String> names(int n) throws Exception" in text_of("A.java", SAMPLES["A.java"][0]).replace(
        "@Override ", ""
    )
    assert "  pub async fn f<T>(x: T) -> Result<(), String>" in text_of("a.rs", SAMPLES["a.rs"][0])
    assert "  func (p *Point) Move(dx int) error" in text_of("a.go", SAMPLES["a.go"][0])


def test_without_grammars_patterns_are_used_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "find_spec", lambda name: None)
    text = text_of("a.go", SAMPLES["a.go"][0])
    assert "Read by patterns: there is no grammar; pip install 'mnesis-context[files]'" in text
    assert "  func main()" in text


@needs_grammars
def test_code_with_errors_is_read_and_told() -> None:
    text = text_of("a.go", "package x\nfunc ok() {}\nfunc broken( {{{\n")
    assert "syntax errors" in text
    assert "func ok()" in text


@needs_grammars
def test_code_that_makes_its_parser_grow_without_end_is_read_by_patterns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "MAX_PARSE_SECONDS", 25.0)  # memory ends it, not time
    text = text_of("A.java", "a<" * 300_000 + "\nclass Seen {\n")
    assert "Read by patterns: its parser gave up" in text
    assert "class Seen" in text


@needs_grammars
def test_code_that_does_not_parse_is_read_by_patterns() -> None:
    text = text_of("A.java", "class Seen {\n" + "a<" * 300)
    assert "Read by patterns: with its syntax errors" in text
    assert "class Seen" in text


def test_code_too_large_for_its_grammar_is_read_by_patterns() -> None:
    text = text_of("a.rs", "fn seen() {}\n" + "// filler\n" * (code.MAX_PARSED_BYTES // 10))
    assert "Read by patterns: it has more than 1,048,576 bytes" in text
    assert "fn seen()" in text


@needs_grammars
def test_aliases_constants_typedefs_and_fields_are_declarations(tmp_path: Path) -> None:
    for name, source, shown in (
        ("a.c", "typedef int (*callback)(int);\ntypedef int number;\n", ["typedef int (*callback)(int)", "typedef int number"]),
        ("a.cpp", "using Names = std::vector<int>;\n", ["using Names = std::vector<int>"]),
        ("a.go", "package m\ntype Short = string\n", ["type Short = string"]),
        ("a.rs", "extern crate near;\npub const LIMIT: u8 = 3;\nstatic ON: bool = true;\n", ["pub const LIMIT: u8 = 3", "static ON: bool = true"]),
        ("a.ts", "class A { run = (x: number) => x; }\ndeclare module 'm' { export function far(): void }\n", ["run = (x: number)", "module 'm'", "function far(): void"]),
        ("a.js", "export * from './near';\nclass A { #run = (x) => x; }\n", ["#run = (x)"]),
    ):  # fmt: skip
        text = text_of(name, source)
        assert "patterns" not in text
        assert [line.strip() for line in text.split("\n")[-len(shown) :]] == shown
        assert ("Imports: " in text) == ("near" in source)
