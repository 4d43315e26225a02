//! Metrics as OpenMetrics text, where each sample carries its time (OpenMetrics 1.0, "Text Format").
use prometheus::TextEncoder;
use prometheus::proto::MetricFamily;

/// All samples as of `time`, in seconds of Unix time.
pub(super) fn encode(families: &[MetricFamily], time: f64) -> prometheus::Result<String> {
    let text = TextEncoder::new().encode_to_string(families)?;
    let mut out = String::with_capacity(text.len() * 2);
    for line in text.lines() {
        match line.strip_prefix("# ") {
            Some(comment) => push_comment(&mut out, comment),
            None => push_sample(&mut out, line, time),
        }
    }
    out.push_str("# EOF\n");
    Ok(out)
}

/// `HELP name text` or `TYPE name kind`. The name of a family of counters has no `_total`; a counter
/// whose samples have none is not what OpenMetrics calls a counter.
fn push_comment(out: &mut String, comment: &str) {
    let mut parts = comment.splitn(3, ' ');
    let (word, name, rest) = (parts.next(), parts.next(), parts.next());
    let (Some(word), Some(name), Some(rest)) = (word, name, rest) else { return };
    let family = name.strip_suffix("_total").unwrap_or(name);
    let rest = if rest == "counter" && family == name { "unknown" } else { rest };
    out.push_str(&format!("# {word} {family} {rest}\n"));
}

fn push_sample(out: &mut String, line: &str, time: f64) {
    // Label values may hold spaces; the value of the sample does not.
    let Some((name, value)) = line.rsplit_once(' ') else { return };
    out.push_str(name);
    out.push(' ');
    out.push_str(value);
    if value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        out.push_str(".0");
    }
    out.push_str(&format!(" {time:.3}\n"));
}

#[cfg(test)]
mod tests {
    use prometheus::{Gauge, HistogramOpts, HistogramVec, IntCounter, Registry};

    use super::encode;

    #[test]
    fn every_sample_has_a_float_and_a_time() {
        let registry = Registry::new();
        let counter = IntCounter::new("rows_total", "Rows of all kinds.").unwrap();
        let odd = IntCounter::new("flush_count", "No suffix.").unwrap();
        let gauge = Gauge::new("lag_seconds", "Lag.").unwrap();
        let opts = HistogramOpts::new("took_seconds", "Time.").buckets(vec![0.5]);
        let histogram = HistogramVec::new(opts, &["table"]).unwrap();
        counter.inc_by(3);
        gauge.set(0.25);
        histogram.with_label_values(&["a b"]).observe(2.0);
        registry.register(Box::new(counter)).unwrap();
        registry.register(Box::new(odd)).unwrap();
        registry.register(Box::new(gauge)).unwrap();
        registry.register(Box::new(histogram)).unwrap();
        let text = encode(&registry.gather(), 1_770_045_905.735).unwrap();
        assert_eq!(
            text,
            "# HELP flush_count No suffix.\n\
             # TYPE flush_count unknown\n\
             flush_count 0.0 1770045905.735\n\
             # HELP lag_seconds Lag.\n\
             # TYPE lag_seconds gauge\n\
             lag_seconds 0.25 1770045905.735\n\
             # HELP rows Rows of all kinds.\n\
             # TYPE rows counter\n\
             rows_total 3.0 1770045905.735\n\
             # HELP took_seconds Time.\n\
             # TYPE took_seconds histogram\n\
             took_seconds_bucket{table=\"a b\",le=\"0.5\"} 0.0 1770045905.735\n\
             took_seconds_bucket{table=\"a b\",le=\"+Inf\"} 1.0 1770045905.735\n\
             took_seconds_sum{table=\"a b\"} 2.0 1770045905.735\n\
             took_seconds_count{table=\"a b\"} 1.0 1770045905.735\n\
             # EOF\n"
        );
    }
}
