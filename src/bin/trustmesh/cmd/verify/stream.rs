//! Envelopes from a stream: each judged by itself, in constant memory.

use std::io::BufRead;
use std::io::BufReader;
use std::io::BufWriter;
use std::io::Read;
use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use trustmesh::proto::envelope::UnverifiedEnvelope;
use trustmesh::proto::names::MAGIC_ENVELOPE;
use trustmesh::proto::rejection::Rejection;
use trustmesh::proto::scope::Action;
use trustmesh::proto::time::ClockSkew;
use trustmesh::proto::time::Timestamp;
use trustmesh::proto::trust::TrustState;
use trustmesh::proto::verify::Judge;
use trustmesh::proto::verify::Judgement;
use trustmesh::proto::verify::Pending;
use trustmesh::proto::verify::Testimony;

use super::line;
use crate::advice;
use crate::cmd::OK;
use crate::cmd::Outcome;
use crate::failure::Failure;
use crate::failure::class_code;
use crate::object;
use crate::object::OBJECT_MAX;
use crate::output::Output;
use crate::text;

/// Longest line: the largest object in hexadecimal, and a subject.
const LINE_MAX: u64 = 2 * OBJECT_MAX + 4096;

/// Bytes read and written at once.
const BUFFER: usize = 256 * 1024;

/// Where envelopes are judged.
pub struct Bench {
    judge: Judge,
    trust: Arc<TrustState>,
    at: Timestamp,
    subject: Option<String>,
    request: Option<Pending>,
}

/// A line that says more than the bytes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    bytes: String,
    subject: Option<String>,
    at: Option<At>,
    request: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum At {
    Millis(u64),
    Text(String),
}

impl Bench {
    pub fn new(trust: Arc<TrustState>, at: Timestamp, subject: Option<String>) -> Self {
        Self {
            judge: Judge::new(ClockSkew::default()),
            trust,
            at,
            subject,
            request: None,
        }
    }

    /// Judges what follows as answers to this request.
    pub fn beside(&mut self, request: &Bytes) -> anyhow::Result<()> {
        self.request = Some(self.pending(request)?);
        Ok(())
    }

    /// Judges one envelope.
    pub fn single(&self, frame: &Bytes, output: &Output) -> Outcome {
        let judged = self.judge(frame);
        let mut writer = Writer::new(output);
        writer.write(None, &judged)?;
        writer.finish()?;
        if let Some(rejection) = &judged.rejection {
            output.note(format_args!("next: {}", advice::next(rejection)));
        }
        Ok(exit_code(judged.rejection.as_ref()))
    }

    /// Judges one envelope a line, to the end of the input.
    pub fn stream(&self, input: impl Read, output: &Output) -> Outcome {
        let mut input = BufReader::with_capacity(BUFFER, input);
        let mut writer = Writer::new(output);
        let (mut line, mut number, mut judged) = (Vec::new(), 0, 0u64);
        let mut first = None;
        while read_line(&mut input, &mut line, number + 1)? {
            number += 1;
            let text = line.trim_ascii();
            if text.is_empty() {
                continue;
            }
            let judgement = self.judge_line(text, number)?;
            judged += 1;
            first = first.or(judgement.rejection);
            writer.write(Some(number), &judgement)?;
            // Whoever feeds envelopes one by one sees each verdict at once.
            if input.buffer().is_empty() {
                writer.flush()?;
            }
        }
        writer.finish()?;
        if judged == 0 {
            return Err(Failure::usage("there is nothing to judge")
                .next("give one envelope a line, in hexadecimal or base 64")
                .into());
        }
        if let Some(rejection) = &first {
            output.note(format_args!("next: {}", advice::next(rejection)));
        }
        Ok(exit_code(first.as_ref()))
    }

    fn judge(&self, frame: &Bytes) -> Judgement {
        let testimony = Testimony {
            subject: self.subject.as_deref(),
            request: self.request.as_ref(),
        };
        self.judge.judge(frame, &testimony, &self.trust, self.at)
    }

    fn judge_line(&self, text: &[u8], number: u64) -> anyhow::Result<Judgement> {
        if text.first() != Some(&b'{') {
            // Bytes that are neither form are no envelope, and judged to be none.
            let frame = object::decode_line(text);
            let frame = frame.unwrap_or_else(|| Bytes::copy_from_slice(text));
            return Ok(self.judge(&frame));
        }
        let unusable = |why: String| Failure::usage(format!("line {number} is unusable: {why}"));
        let record: Record = serde_json::from_slice(text).map_err(|e| unusable(e.to_string()))?;
        let decode = |text: &str| {
            object::decode(text.as_bytes())
                .ok_or_else(|| unusable("neither hexadecimal nor base 64".to_owned()))
        };
        let frame = decode(&record.bytes)?;
        let at = match record.at {
            None => self.at,
            Some(At::Millis(millis)) => Timestamp::from_millis(millis),
            Some(At::Text(text)) => text::instant(&text).map_err(unusable)?,
        };
        let request = record
            .request
            .map(|request| self.pending(&decode(&request)?))
            .transpose()?;
        let testimony = Testimony {
            subject: record.subject.as_deref().or(self.subject.as_deref()),
            request: request.as_ref().or(self.request.as_ref()),
        };
        Ok(self.judge.judge(&frame, &testimony, &self.trust, at))
    }

    /// What an answer has to answer. A request authorises nothing by itself, but one that never
    /// held is no evidence that anything was asked: it is judged at the moment it was issued.
    fn pending(&self, request: &Bytes) -> anyhow::Result<Pending> {
        let refused = |rejection| {
            let failure = Failure::refused(rejection);
            failure.fact("of", "the request, which must hold before its answer can")
        };
        let issued = UnverifiedEnvelope::parse(request)
            .map_err(refused)?
            .claims()
            .issued;
        let alone = Testimony::default();
        let judged = self.judge.judge(request, &alone, &self.trust, issued);
        if let Some(rejection) = judged.rejection {
            return Err(refused(rejection).into());
        }
        match (judged.claims, judged.object) {
            (Some(claims), Some(request)) if claims.action == Action::Request => Ok(Pending {
                request,
                subject: claims.subject,
                audience: claims.audience,
            }),
            _ => Err(Failure::usage("what was given as the request is none").into()),
        }
    }
}

/// Whether the first line is an envelope by itself.
pub fn begins_with_envelope(bytes: &[u8]) -> bool {
    let first = bytes.split(|byte| *byte == b'\n').next().unwrap_or(bytes);
    object::decode(first).is_some_and(|frame| {
        frame.starts_with(&MAGIC_ENVELOPE) && UnverifiedEnvelope::parse(&frame).is_ok()
    })
}

fn exit_code(rejection: Option<&Rejection>) -> u8 {
    rejection.map_or(OK, |rejection| class_code(rejection.class()))
}

/// Reads one line, no longer than a line may be; `false` at the end.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>, number: u64) -> anyhow::Result<bool> {
    line.clear();
    let read = input.by_ref().take(LINE_MAX).read_until(b'\n', line)?;
    if read as u64 == LINE_MAX && line.last() != Some(&b'\n') {
        return Err(Failure::usage(format!("line {number} is longer than any object")).into());
    }
    Ok(read > 0)
}

/// Buffered results, in the form asked for.
enum Writer {
    Json(BufWriter<std::io::StdoutLock<'static>>),
    Text(BufWriter<anstream::AutoStream<std::io::StdoutLock<'static>>>),
}

impl Writer {
    fn new(output: &Output) -> Self {
        if output.json() {
            Self::Json(BufWriter::with_capacity(BUFFER, std::io::stdout().lock()))
        } else {
            Self::Text(BufWriter::with_capacity(BUFFER, anstream::stdout().lock()))
        }
    }

    fn write(&mut self, number: Option<u64>, judged: &Judgement) -> anyhow::Result<()> {
        match self {
            Self::Json(out) => line::write_json(out, number, judged),
            Self::Text(out) => Ok(line::write_text(out, number, judged)?),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Json(out) => out.flush(),
            Self::Text(out) => out.flush(),
        }
    }

    fn finish(mut self) -> std::io::Result<()> {
        self.flush()
    }
}
