# SPDX-License-Identifier: GPL-3.0-or-later
"""JavaScript of design documents, run by QuickJS, which CouchDB itself runs it with.

The engine is PyPI's quickjs-ng (``import quickjs``): without it the stand-in has no views over documents.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from .couch_errors import Document, StoreError

try:
    import quickjs
except ImportError:
    quickjs = None

AVAILABLE = quickjs is not None
SECONDS = 30
"""Processor time that one call may take."""

_PRELUDE = r"""
var __rows = [], __next = 0, __chunks = [], __start = null, __emitted = [], __maps = [], __design = {};
function emit(key, value) { __emitted.push([key === undefined ? null : key, value === undefined ? null : value]); }
function log(message) {}
function toJSON(value) { return JSON.stringify(value); }
function isArray(value) { return Array.isArray(value); }
function sum(values) { return values.reduce(function (a, b) { return a + b; }, 0); }
function start(head) { __start = head; }
function send(chunk) { __chunks.push(String(chunk)); }
function getRow() { return __next < __rows.length ? __rows[__next++] : null; }
var __providers = {};
function registerType() {}
function provides(type, fun) { __providers[type] = fun; }
function __find(path, base) {
  var words = (path.charAt(0) === '.' ? base.concat(path.split('/')) : path.split('/')), at = [];
  words.forEach(function (word) {
    if (word === '..') { at.pop(); } else if (word !== '.' && word !== '') { at.push(word); }
  });
  var value = __design;
  at.forEach(function (word) {
    if (value === undefined || value === null || value[word] === undefined) {
      throw new Error('Invalid require path: no property ' + word);
    }
    value = value[word];
  });
  return {value: value, base: at.slice(0, -1), name: at.join('/')};
}
var __modules = {};
function __requirer(base) {
  return function (path) {
    var found = __find(path, base);
    if (!__modules[found.name]) {
      var module = {exports: {}, id: found.name};
      __modules[found.name] = module;
      new Function('module', 'exports', 'require', found.value)(module, module.exports, __requirer(found.base));
    }
    return __modules[found.name].exports;
  };
}
var require = __requirer([]);
function __compile(source) {
  var starts = [0], anonymous = /(^|[\n;}])\s*function\s*\(/g, match, first = null;
  // Helpers may stand before the function itself, which has no name.
  while ((match = anonymous.exec(source)) !== null) { starts.push(match.index + match[1].length); }
  for (var i = 0; i < starts.length; i++) {
    try {
      var body = source.slice(0, starts[i]) + '\nvar __found = ' + source.slice(starts[i]) + '\n; return __found;';
      var found = new Function('require', body)(require);
      if (typeof found === 'function') { return found; }
    } catch (error) {
      if (!(error instanceof SyntaxError)) { throw error; }
      first = first || error;
    }
  }
  throw first || new SyntaxError('Expression does not eval to a function.');
}
function __addMap(source) { __maps.push(__compile(source)); }
function __map(text) {
  return JSON.stringify(JSON.parse(text).map(function (doc) {
    return __maps.map(function (fun) {
      __emitted = [];
      try { fun.call(__design, doc); } catch (error) { __emitted = []; }
      return __emitted;
    });
  }));
}
function __reduce(source, text) {
  var fun = __compile(source);
  return JSON.stringify(JSON.parse(text).map(function (group) {
    var value = fun.apply(__design, group);
    return value === undefined ? null : value;
  }));
}
function __call(source, text) {
  try {
    var value = __compile(source).apply(__design, JSON.parse(text));
    var provider = __providers.json || __providers[Object.keys(__providers)[0]];
    if (provider) {
      var tail = provider.call(__design);
      if (tail !== undefined) { __chunks.push(String(tail)); }
    }
    return JSON.stringify({value: value === undefined ? null : value, chunks: __chunks, start: __start});
  } catch (error) {
    if (error instanceof Error) { return JSON.stringify({error: String(error)}); }
    return JSON.stringify({thrown: error});
  }
}
function __each(source, texts) {
  var fun = __compile(source), arguments_ = JSON.parse(texts);
  return JSON.stringify(arguments_[0].map(function (doc) { return !!fun.call(__design, doc, arguments_[1]); }));
}
"""


class Interpreter:
    """One engine with one design document loaded. Made, used and dropped by one thread."""

    def __init__(self, design: Document) -> None:
        if quickjs is None:
            raise StoreError(501, "not_implemented", "this is a stand-in: it has no views over documents")
        self._context = quickjs.Context()
        self._context.eval(_PRELUDE)
        self._context.set_time_limit(SECONDS)
        self._context.eval(f"__design = JSON.parse({json.dumps(json.dumps(design))})")

    def _run(self, name: str, *texts: str) -> Any:
        try:
            return self._context.get(name)(*texts)
        except quickjs.JSException as error:
            raise StoreError(400, "compilation_error", str(error).strip()) from None

    def compiles(self, source: str) -> str:
        """Why a function does not compile; empty where it does."""
        try:
            self._run("__compile", source)
        except StoreError as error:
            return str(error)
        return ""

    def add_map(self, source: str) -> None:
        """One more map function for ``map``. Raises StoreError."""
        self._run("__addMap", source)

    def map(self, documents: Iterable[Document]) -> list[list[list[Any]]]:
        """For each document and each map function the emitted pairs; none where the function fails."""
        result: list[list[list[Any]]] = json.loads(self._run("__map", json.dumps(list(documents))))
        return result

    def reduce(self, source: str, calls: Iterable[tuple[Any, Any, bool]]) -> list[Any]:
        """Results of the reduce function for each of (keys, values, rereduce)."""
        result: list[Any] = json.loads(self._run("__reduce", source, json.dumps(list(calls))))
        return result

    def rows(self, rows: Iterable[Document]) -> None:
        """What ``getRow`` gives."""
        self._context.eval(f"__rows = JSON.parse({json.dumps(json.dumps(list(rows)))})")

    def call(self, source: str, *arguments: Any) -> Document:
        """``value``, ``chunks`` and ``start`` of one call, or what it threw (``thrown``). Raises StoreError 500."""
        result: Document = json.loads(self._run("__call", source, json.dumps(arguments)))
        if "error" in result:
            raise StoreError(500, "TypeError", result["error"])
        return result

    def each(self, source: str, documents: Iterable[Document], request: Document) -> list[bool]:
        """What a filter function says of each document."""
        result: list[bool] = json.loads(self._run("__each", source, json.dumps([list(documents), request])))
        return result
