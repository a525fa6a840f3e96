//! The report for programs, preflight.json, and its schema.

use super::*;

#[test]
fn the_file_for_programs() {
    let mut socket = finding(&UNIX, 4213, "ngi\x1bnx", Some(9)).text("path", &b"@\x00a\xff"[..]).num("peer", 4711);
    socket.holders = vec![Holder { pid: 90, comm: "dbus".into(), fd: Some(1) }];
    socket.also = vec![Place { pid: 4214, ..Place::default() }];
    let mut mapping =
        finding(&MAPPING, 4220, "worker", None).fact("range", Value::Range(0x7f00_0000, 0x7f00_1000)).doubt();
    mapping.addr = Some(0xffff_ffff_ff60_0000);
    mapping.tid = Some(4221);
    let mut report = report(vec![socket, mapping]);
    report.unchecked = vec![Unchecked { pid: 7, fd: Some(3), probe: Probe::FdInfo, errno: libc::EACCES }];
    let json = json::to_vec(&report, &host(Runtime::PodmanCrun)).unwrap();
    expect![[r#"
        {
          "schema": 1,
          "plugin": "0.1.0",
          "verdict": "refuse",
          "mode": "enforce",
          "look": "early",
          "criu": {
            "stage": "dump",
            "release": "4.2",
            "caps": {
              "checkpoint_hook": false,
              "pidfd": false,
              "shstk": false,
              "uprobes": false,
              "madv_guards": false,
              "bpfmap": false,
              "compat": false,
              "plugin_options": false
            },
            "options_known": true
          },
          "runtime": "podman-crun",
          "root": {
            "pid": 4211,
            "comm": "nginx"
          },
          "tasks": 17,
          "looked_at": {
            "threads": 0,
            "descriptors": 0,
            "mappings": 0,
            "mounts": 0,
            "sockets": 0
          },
          "findings": [
            {
              "rule": "unix-external-stream",
              "verdict": "refuse",
              "pid": 4213,
              "comm": "ngi\\x1bnx",
              "fd": 9,
              "facts": {
                "path": "@\\x00a\\xff",
                "peer": 4711
              },
              "raw_hex": {
                "path": "400061ff"
              },
              "holders": [
                {
                  "pid": 90,
                  "comm": "dbus",
                  "fd": 1
                }
              ],
              "also": [
                {
                  "pid": 4214,
                  "fd": null
                }
              ],
              "message": "stream socket @\\x00a\\xff is connected to the outside",
              "hint": "write 'external unix[4711]' (restore with --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]') in /etc/criu/crun.conf (or the file of annotation org.criu.config); or load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)"
            },
            {
              "rule": "vma-device",
              "verdict": "warn",
              "reason": "fact-unknown",
              "pid": 4220,
              "tid": 4221,
              "comm": "worker",
              "address": "0xffffffffff600000",
              "facts": {
                "range": "7f000000-7f001000"
              },
              "holders": [],
              "also": [],
              "message": "mapping 7f000000-7f001000 of a device",
              "hint": "no workaround known"
            }
          ],
          "unchecked": [
            {
              "pid": 7,
              "fd": 3,
              "what": "fdinfo",
              "errno": 13,
              "reason": "EACCES"
            }
          ],
          "log": [
            "Error (preflight): refusing to dump pid 4211 (nginx), nothing was frozen: 1 blocker in 2 of 17 tasks: unix-external-stream x1",
            "Error (preflight): unix-external-stream: pid 4213 (ngi\\x1bnx) fd 9: stream socket @\\x00a\\xff is connected to the outside; held by: pid 90 (dbus) fd 1; also pid 4214; write 'external unix[4711]' (restore with --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]') in /etc/criu/crun.conf (or the file of annotation org.criu.config); or load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)",
            "Warn  (preflight): vma-device: pid 4220 (worker) thread 4221: mapping 7f000000-7f001000 of a device; no workaround known",
            "Warn  (preflight): 1 thing could not be looked at: fdinfo EACCES (pid 7 fd 3)"
          ]
        }
    "#]].assert_eq(std::str::from_utf8(&json).unwrap());

    let schema: serde_json::Value = serde_json::from_str(include_str!("../../../docs/preflight.schema.json")).unwrap();
    let mut document: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let conforms = |d: &serde_json::Value| conforms(&schema, &schema, d, "preflight.json");
    assert_eq!(conforms(&document), Vec::<String>::new());
    // The check can fail.
    document["findings"][0]["pid"] = "4213".into();
    document["findings"][1].as_object_mut().unwrap().remove("hint");
    document["runtime"] = "docker".into();
    document["more"] = 1.into();
    assert_eq!(conforms(&document).len(), 4, "{:?}", conforms(&document));
}

/// What is wrong with `value` by the words of JSON Schema that the schema uses.
fn conforms(root: &serde_json::Value, schema: &serde_json::Value, value: &serde_json::Value, at: &str) -> Vec<String> {
    use serde_json::Value as J;
    let schema = match schema["$ref"].as_str() {
        Some(path) => root.pointer(path.strip_prefix('#').unwrap()).unwrap(),
        None => schema,
    };
    let mut wrong = Vec::new();
    let has_type = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("type {other}"),
    };
    let typed = match &schema["type"] {
        J::Array(names) => names.iter().any(|n| has_type(n.as_str().unwrap())),
        name => has_type(name.as_str().unwrap()),
    };
    if !typed {
        wrong.push(format!("{at}: not {}", schema["type"]));
    }
    if schema["enum"].as_array().is_some_and(|list| !list.contains(value)) {
        wrong.push(format!("{at}: {value} is not one of {}", schema["enum"]));
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(J::as_str) {
        if value.get(name).is_none() {
            wrong.push(format!("{at}: no {name}"));
        }
    }
    for (name, member) in value.as_object().into_iter().flatten() {
        match &schema["properties"][name] {
            // A reader has to bear members that it does not know; ours are all described.
            J::Null if schema["properties"].is_object() => wrong.push(format!("{at}: {name} is not described")),
            J::Null => {}
            inner => wrong.extend(conforms(root, inner, member, &format!("{at}.{name}"))),
        }
    }
    for (i, member) in value.as_array().into_iter().flatten().enumerate() {
        wrong.extend(conforms(root, &schema["items"], member, &format!("{at}[{i}]")));
    }
    wrong
}
