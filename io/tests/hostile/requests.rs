//! What somebody sends who means us no good, and what he may get for it.
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::client::{Request, bearer, bytes, head, post, row, rows};
use super::server::{BODY_BYTES_MAX, ROWS_MAX, Tokens};

/// The key of all his rows.
const KEY: u32 = 666_666;

/// One of his requests.
#[derive(Clone, Debug)]
pub(crate) struct Hostile {
    /// What he tries.
    pub(crate) name: String,
    /// What he sends.
    pub(crate) request: Request,
    /// The statuses that he may get; `None` is a closed connection.
    pub(crate) statuses: Vec<Option<u16>>,
}

/// All that he can think of.
pub(crate) fn hostile(tokens: &Tokens) -> Vec<Hostile> {
    let mut list = List(Vec::new());
    tokens_of_others(&mut list, tokens);
    paths(&mut list, tokens);
    heads(&mut list, tokens);
    bodies(&mut list, tokens);
    packed(&mut list, tokens);
    slow(&mut list, tokens);
    list.0
}

struct List(Vec<Hostile>);

impl List {
    fn add(&mut self, name: &str, request: Request, statuses: &[Option<u16>]) {
        let (name, statuses) = (name.to_owned(), statuses.to_vec());
        self.0.push(Hostile { name, request, statuses });
    }

    /// One that must be refused with this status, if there is room to find out.
    fn refused(&mut self, name: &str, request: Request, status: u16) {
        self.add(name, request, &[Some(status), Some(429), Some(503)]);
    }
}

fn tokens_of_others(list: &mut List, tokens: &Tokens) {
    let body = row(KEY);
    for (name, token) in [
        ("a token for another schema", &tokens.elsewhere),
        ("a revoked token", &tokens.revoked),
        ("a token of a stranger", &tokens.stranger),
        ("a token by a shared secret", &tokens.shared),
        ("a token without a signature", &tokens.unsigned),
        ("half a token", &tokens.good[..tokens.good.len() / 2].to_owned()),
        ("a long token", &"x".repeat(30_000)),
        ("dots", &".".repeat(10_000)),
    ] {
        list.refused(name, post("/app/public", token, &body), 401);
        let request = bytes("POST", &format!("/app/public?access_token={token}"), "", &body);
        list.add(name, Request::Whole(request), &[Some(401), Some(414)]);
    }
    let plain = bytes("POST", "/app/public", "", &body);
    list.refused("no token", Request::Whole(plain), 401);
    let twice = bearer(&tokens.good).repeat(2);
    let twice = bytes("POST", "/app/public", &twice, &body);
    list.refused("two tokens", Request::Whole(twice), 401);
    let both = format!("/app/public?access_token={}", tokens.good);
    list.refused("a token in two places", post(&both, &tokens.good, &body), 401);
}

fn paths(list: &mut List, tokens: &Tokens) {
    let long = format!("/app/{}", "x".repeat(5_000));
    for path in [
        "/",
        "//",
        "/app",
        "/app%2Fpublic",
        "/app%2fpublic/",
        "/app/..",
        "/app/%2e%2e/public",
        "/app/./public",
        "/app/public/%2E%2E/%2e%2e/etc/passwd",
        "/app/%00",
        "/app/public%00",
        "/app/public%0d%0aX:%20y",
        "/app/%c0%afpublic",
        "/app/%c1%9c",
        "/app/%e0%80%af",
        "/app/%ff",
        "/app/%",
        "/app/%zz",
        "/app/\"public",
        "/_/healthz",
        "/_/diag",
        "/a/b/c/d/e/f/g/h",
        &long,
    ] {
        let name = format!("the path {path:.40}");
        list.add(&name, post(path, &tokens.good, &row(KEY)), &[Some(404), Some(400)]);
    }
    // These are names, but not of the schema that the token is for.
    for path in ["/app/Public", "/APP/public", "/app/%2570ublic", "/app/public%20", "/app/*"] {
        list.refused(&format!("the path {path}"), post(path, &tokens.good, &row(KEY)), 401);
    }
    list.refused("a table", post("/app/public/t", &tokens.good, &row(KEY)), 503);
}

fn heads(list: &mut List, tokens: &Tokens) {
    let token = bearer(&tokens.good);
    let with = |headers: &str| {
        let bytes = bytes("POST", "/app/public", &(token.clone() + headers), &row(KEY));
        Request::Whole(bytes)
    };
    let large = [Some(431), Some(400), None];
    list.add("a large header", with(&format!("X: {}\r\n", "x".repeat(300_000))), &large);
    list.add("many headers", with(&"X: y\r\n".repeat(5_000)), &large);
    list.refused("a coding that is unknown", with("Content-Encoding: br\r\n"), 415);
    list.refused("a coding over another", with("Content-Encoding: gzip, gzip\r\n"), 415);
    for method in ["GET", "DELETE", "PATCH", "OPTIONS", "TRACE", "XYZZY"] {
        let request = bytes(method, "/app/public", &token, &row(KEY));
        list.refused(method, Request::Whole(request), 405);
    }
    let broken = [Some(400), None];
    let two_lengths = head("POST", "/app/public", &(token.clone() + "Content-Length: 5\r\n"));
    let two_lengths = String::from_utf8(two_lengths).expect("a head is text");
    let two_lengths =
        two_lengths.replace("Content-Length: 5", "Content-Length: 5\r\nContent-Length: 6");
    list.add("two lengths", Request::Whole((two_lengths + "{}xxxx").into_bytes()), &broken);
    for length in ["-1", "0x10", "99999999999999999999", "5, 6", "five"] {
        let bad = head("POST", "/app/public", &format!("{token}Content-Length: {length}\r\n"));
        list.add(&format!("length {length}"), Request::Whole(bad), &broken);
    }
    for (name, garbage) in [
        ("the hello of TLS", &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..]),
        ("zeros", &[0; 4_096]),
        ("a request line that never ends", &[b'A'; 200_000]),
        ("HTTP/0.9", b"GET /app/public\r\n\r\n"),
        (
            "frames that are none",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnot a frame at all, far from it",
        ),
    ] {
        let statuses = [Some(400), Some(431), Some(414), None];
        list.add(name, Request::Whole(garbage.to_vec()), &statuses);
    }
}

fn bodies(list: &mut List, tokens: &Tokens) {
    let mut add = |name: &str, body: &[u8], status: u16| {
        list.refused(name, post("/app/public", &tokens.good, body), status);
    };
    add("half JSON", &row(KEY)[..40], 400);
    add("no UTF-8", b"{\"payload\":[\"\xff\xfe\xc0\x80\"]}", 400);
    add("deep arrays", &[b'['; 10_000], 413);
    let deep = format!("{{\"payload\":[{}]}}", "{\"a\":".repeat(10_000));
    add("deep objects", deep.as_bytes(), 413);
    let good = format!(r#"{{"topic":"t","key":[{KEY}],"after":{{"id":{KEY}}},"updated":"1.0"}}"#);
    let after =
        good.replace(&format!("{{\"id\":{KEY}}}"), &("[".repeat(10_000) + &"]".repeat(10_000)));
    add("a deep value", &rows(&[after]), 413);
    add("a good row before a bad one", &rows(&[good.clone(), "{\"topic\":7}".to_owned()]), 400);
    add("a good row before an end", format!("{{\"payload\":[{good},").as_bytes(), 400);
    add("a member twice", &rows(&[good.replace("{\"id\":", "{\"id\":1,\"id\":")]), 400);
    add("a time that is none", &rows(&[good.replace("1.0", "1e9")]), 400);
    for topic in ["other", "public.t", "app.public.t.x", "\\u0000", "T"] {
        let row = good.replace("\"t\"", &format!("\"{topic}\""));
        add(&format!("topic {topic}"), &rows(&[row]), 409);
    }
    add("too many rows", &rows(&vec![good; ROWS_MAX + 1]), 413);
    add("a large body", &vec![b' '; BODY_BYTES_MAX + 1], 413);
    let token = bearer(&tokens.good);
    let chunked = head("POST", "/app/public", &(token + "Transfer-Encoding: chunked\r\n"));
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
    let large = [chunked.as_slice(), &chunk.repeat(32)].concat();
    let too_large = [Some(413), Some(429), Some(503), None];
    list.add("a body that goes on and on", Request::Whole(large), &too_large);
    for bad in
        ["zz\r\n{}\r\n0\r\n\r\n", "-2\r\n{}\r\n0\r\n\r\n", "fffffffffffffffff\r\n", "2\r\n{}x\r\n"]
    {
        let request = [chunked.as_slice(), bad.as_bytes()].concat();
        let broken = [Some(400), Some(503), None];
        list.add(&format!("chunk {bad:.4}"), Request::Whole(request), &broken);
    }
}

fn packed(list: &mut List, tokens: &Tokens) {
    let zeros = vec![b' '; 16 << 20];
    let mut add = |name: &str, coding: &str, body: &[u8], status: u16| {
        let headers = format!("{}Content-Encoding: {coding}\r\n", bearer(&tokens.good));
        let request = Request::Whole(bytes("POST", "/app/public", &headers, body));
        list.refused(name, request, status);
    };
    let bomb = gzip(&zeros);
    add("a bomb of gzip", "gzip", &bomb, 413);
    add("a bomb in a bomb", "gzip", &gzip(&bomb), 400);
    add("half a bomb", "gzip", &bomb[..200], 400);
    add("many members", "gzip", &gzip(b"").repeat(BODY_BYTES_MAX / 20 - 10), 200);
    add("no gzip", "gzip", &row(KEY), 400);
    let bomb = compress_to_vec(zeros.as_slice(), CompressionLevel::Fastest);
    add("a bomb of Zstandard", "zstd", &bomb, 413);
    add("half a bomb of Zstandard", "zstd", &bomb[..30], 400);
    add("no Zstandard", "zstd", &row(KEY), 400);
    add("a window of 3 TiB", "zstd", &[0x28, 0xB5, 0x2F, 0xFD, 0, 0xFF, 1, 0, 0], 400);
    add("frames to be skipped", "zstd", &b"\x50\x2A\x4D\x18\0\0\0\0".repeat(100_000), 200);
}

fn slow(list: &mut List, tokens: &Tokens) {
    let token = bearer(&tokens.good);
    let whole = bytes("POST", "/app/public", &token, &row(KEY));
    let body_at = whole.len() - row(KEY).len();
    let timed_out = [Some(503), Some(408), None];
    let slow = |at: usize| Request::Slow(whole[..at].to_vec(), whole[at..].to_vec());
    list.add("a body that drips", slow(body_at), &timed_out);
    list.add("a head that drips", slow(20), &timed_out);
    list.add(
        "a body that does not come",
        Request::Slow(whole[..body_at].into(), vec![]),
        &timed_out,
    );
    list.add("nothing at all", Request::Slow(Vec::new(), Vec::new()), &timed_out);
    list.add("half a preface", Request::Slow(b"PRI * HT".to_vec(), Vec::new()), &timed_out);
    let expect = token + "Expect: 100-continue\r\nContent-Length: 100\r\n";
    let expect = head("POST", "/app/public", &expect);
    let continued = [Some(100), Some(503), None];
    list.add("a body to be asked for", Request::Slow(expect, Vec::new()), &continued);
    for end in [1, 20, body_at - 1, body_at, body_at + 10, whole.len() - 1] {
        list.add("somebody leaves", Request::Left(whole[..end].to_vec()), &[None]);
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect("memory takes all");
    encoder.finish().expect("memory takes all")
}
