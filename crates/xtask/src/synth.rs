//! GGUF files of random weights in the shape of a Llama: what speed and memory depend on, at sizes that nobody
//! has to fetch. A file is written tensor by tensor.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use fireside_formats::write::GgufWriter;
use fireside_formats::{DType, FormatError};
use half::f16;

/// Bytes, three control tokens and one merged token: the least that the tokenizer is made of.
const LEAST_VOCAB: usize = 256 + 3 + 1;

/// The shape of a model and the type of its matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Synthetic {
    /// Decoder layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Query heads, which divide `hidden`.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Inner width of the feed-forward layers.
    pub feed_forward: usize,
    /// Tokens of the vocabulary.
    pub vocab: usize,
    /// The longest context.
    pub context: usize,
    /// Whether the head is the embedding.
    pub tied: bool,
    /// Type of the projections. Embedding and head have 8 bits where this is a type of 4.
    pub dtype: DType,
}

impl Synthetic {
    /// The shape that goes by a name: `tiny`, or `1b`, `3b` and `8b` of Llama 3.
    pub fn named(size: &str) -> Option<Self> {
        let tiny = Self {
            layers: 2,
            hidden: 64,
            heads: 4,
            kv_heads: 2,
            feed_forward: 128,
            vocab: 320,
            context: 512,
            tied: true,
            dtype: DType::Q4_1,
        };
        let llama = Self {
            kv_heads: 8,
            vocab: 128_256,
            context: 8192,
            ..tiny
        };
        Some(match size.to_ascii_lowercase().as_str() {
            "tiny" => tiny,
            "1b" => Self {
                layers: 16,
                hidden: 2048,
                heads: 32,
                feed_forward: 8192,
                ..llama
            },
            "3b" => Self {
                layers: 28,
                hidden: 3072,
                heads: 24,
                feed_forward: 8192,
                ..llama
            },
            "8b" => Self {
                layers: 32,
                hidden: 4096,
                heads: 32,
                feed_forward: 14_336,
                tied: false,
                ..llama
            },
            _ => return None,
        })
    }

    /// Sets what an option names: `layers`, `hidden`, `heads`, `kv-heads`, `feed-forward`, `vocab`, `context` or
    /// `type`.
    ///
    /// # Errors
    ///
    /// There is no such option, or the value means nothing for it.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let field = match name {
            "layers" => &mut self.layers,
            "hidden" => &mut self.hidden,
            "heads" => &mut self.heads,
            "kv-heads" => &mut self.kv_heads,
            "feed-forward" => &mut self.feed_forward,
            "vocab" => &mut self.vocab,
            "context" => &mut self.context,
            "type" => {
                self.dtype = match value.to_ascii_lowercase().as_str() {
                    "q4_0" => DType::Q4_0,
                    "q4_1" => DType::Q4_1,
                    "q8_0" => DType::Q8_0,
                    "f16" => DType::F16,
                    _ => bail!("--type is `{value}`; expected q4_0, q4_1, q8_0 or f16"),
                };
                return Ok(());
            }
            _ => bail!(
                "no option `--{name}` of `synth`: there are --size, --type, --layers, --hidden, --heads, \
                 --kv-heads, --feed-forward, --vocab and --context"
            ),
        };
        *field = match value.parse() {
            Ok(number) if number > 0 && u32::try_from(number).is_ok() => number,
            _ => bail!("--{name} is `{value}`; expected a whole number from 1"),
        };
        Ok(())
    }

    /// Whether the numbers fit together.
    ///
    /// # Errors
    ///
    /// They do not; the message names the option.
    pub fn check(&self) -> Result<()> {
        for (name, value) in [
            ("hidden", self.hidden),
            ("feed-forward", self.feed_forward),
            ("vocab", self.vocab),
        ] {
            let blocks = value.is_multiple_of(32) || name == "vocab";
            ensure!(
                blocks,
                "--{name} is {value}, which is no whole number of blocks of 32"
            );
        }
        let (hidden, heads, kv_heads) = (self.hidden, self.heads, self.kv_heads);
        ensure!(
            hidden.is_multiple_of(heads * 2),
            "--heads is {heads}, which does not divide --hidden ({hidden}) into even heads"
        );
        ensure!(
            heads.is_multiple_of(kv_heads),
            "--kv-heads is {kv_heads}, which does not divide --heads ({heads})"
        );
        let vocab = self.vocab;
        ensure!(
            vocab >= LEAST_VOCAB,
            "--vocab is {vocab}; expected {LEAST_VOCAB} or more"
        );
        Ok(())
    }

    /// Writes the file and gives its size in bytes.
    ///
    /// # Errors
    ///
    /// The shape does not fit together, or the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<u64> {
        self.check()?;
        let file =
            File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        self.write_to(BufWriter::new(&file))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(file.metadata()?.len())
    }

    fn write_to(&self, out: impl Write) -> Result<(), FormatError> {
        let tensors = self.tensors();
        let mut writer = GgufWriter::new();
        self.metadata(&mut writer)?;
        for tensor in &tensors {
            writer.tensor(&tensor.name, &tensor.shape, tensor.dtype)?;
        }
        let mut data = writer.start(out)?;
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for tensor in &tensors {
            data.tensor(&tensor.bytes(&mut random))?;
        }
        data.finish()?;
        Ok(())
    }

    fn tensors(&self) -> Vec<Tensor> {
        let (hidden, inner) = (self.hidden, self.feed_forward);
        let kv = hidden / self.heads * self.kv_heads;
        let outer = match self.dtype {
            DType::Q4_0 | DType::Q4_1 => DType::Q8_0,
            other => other,
        };
        let matrix = |name: String, rows, columns, dtype| Tensor {
            name,
            shape: vec![rows, columns],
            dtype,
        };
        let norm = |name: String| Tensor {
            name,
            shape: vec![hidden],
            dtype: DType::F32,
        };
        let mut all = vec![matrix(
            "token_embd.weight".into(),
            self.vocab,
            hidden,
            outer,
        )];
        for layer in 0..self.layers {
            let name = |part: &str| format!("blk.{layer}.{part}.weight");
            all.push(norm(name("attn_norm")));
            all.push(norm(name("ffn_norm")));
            for (part, rows, columns) in [
                ("attn_q", hidden, hidden),
                ("attn_k", kv, hidden),
                ("attn_v", kv, hidden),
                ("attn_output", hidden, hidden),
                ("ffn_gate", inner, hidden),
                ("ffn_up", inner, hidden),
                ("ffn_down", hidden, inner),
            ] {
                all.push(matrix(name(part), rows, columns, self.dtype));
            }
        }
        all.push(norm("output_norm.weight".into()));
        if !self.tied {
            all.push(matrix("output.weight".into(), self.vocab, hidden, outer));
        }
        all
    }

    fn metadata(&self, writer: &mut GgufWriter) -> Result<(), FormatError> {
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        writer
            .metadata("general.architecture", "llama")?
            .metadata("general.name", "random weights")?
            .metadata("llama.context_length", number(self.context))?
            .metadata("llama.embedding_length", number(self.hidden))?
            .metadata("llama.block_count", number(self.layers))?
            .metadata("llama.feed_forward_length", number(self.feed_forward))?
            .metadata("llama.attention.head_count", number(self.heads))?
            .metadata("llama.attention.head_count_kv", number(self.kv_heads))?
            .metadata("llama.attention.layer_norm_rms_epsilon", 1e-5_f32)?
            .metadata(
                "llama.rope.dimension_count",
                number(self.hidden / self.heads),
            )?
            .metadata("llama.rope.freq_base", 500_000.0_f32)?
            .metadata("llama.vocab_size", number(self.vocab))?;
        let tokens = vocabulary(self.vocab);
        // 1 is a normal token, 3 a control token.
        let kinds: Vec<i32> = (0..tokens.len())
            .map(|id| if (256..259).contains(&id) { 3 } else { 1 })
            .collect();
        let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
        writer
            .metadata("tokenizer.ggml.model", "gpt2")?
            .metadata("tokenizer.ggml.pre", "gpt-2")?
            .metadata("tokenizer.ggml.tokens", tokens)?
            .metadata("tokenizer.ggml.token_type", kinds)?
            .metadata("tokenizer.ggml.merges", vec!["t h"])?
            .metadata("tokenizer.ggml.bos_token_id", 256_u32)?
            .metadata("tokenizer.ggml.eos_token_id", 258_u32)?
            .metadata("tokenizer.ggml.add_bos_token", false)?;
        Ok(())
    }
}

/// Bytes as byte-level vocabularies write them, control tokens, a merged token, and names.
fn vocabulary(size: usize) -> Vec<String> {
    let mut others = (256..512).filter_map(char::from_u32);
    let letters = (0..=255_u8).map(char::from).map(|byte| match byte {
        '!'..='~' | '¡'..='¬' | '®'..='ÿ' => byte,
        _ => others.next().unwrap_or(byte),
    });
    let mut all: Vec<String> = letters.map(String::from).collect();
    all.extend(["<|endoftext|>", "<|im_start|>", "<|im_end|>", "th"].map(String::from));
    all.extend((all.len()..size).map(|id| format!("Ġ{id}")));
    all
}

struct Tensor {
    name: String,
    shape: Vec<usize>,
    dtype: DType,
}

impl Tensor {
    /// Its data: values spread evenly about zero, so that a product keeps the size of what it is given. Norms are
    /// ones.
    fn bytes(&self, random: &mut Random) -> Vec<u8> {
        let elements: usize = self.shape.iter().product();
        let columns = self.shape.last().copied().unwrap_or(1).max(1);
        // Half the width of an even spread with the deviation 1 / sqrt(columns).
        let reach = (3.0 / columns as f32).sqrt();
        let half = |value: f32| f16::from_f32(value).to_le_bytes();
        match self.dtype {
            DType::Q4_0 => random.blocks(elements / 32, &half(reach / 8.0), 16),
            DType::Q4_1 => {
                let step = reach / 7.5;
                let head = [half(step), half(-7.5 * step)].concat();
                random.blocks(elements / 32, &head, 16)
            }
            DType::Q8_0 => random.blocks(elements / 32, &half(reach / 128.0), 32),
            DType::F16 => (0..elements)
                .flat_map(|_| half(reach * random.even()))
                .collect(),
            _ => 1.0_f32.to_le_bytes().repeat(elements),
        }
    }
}

/// A xorshift generator: the same file everywhere, and as fast as a disk.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// From -1 to 1.
    fn even(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    }

    /// Blocks of the same head and random quants.
    fn blocks(&mut self, count: usize, head: &[u8], quants: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(count * (head.len() + quants));
        for _ in 0..count {
            out.extend_from_slice(head);
            for _ in 0..quants / 8 {
                out.extend_from_slice(&self.next().to_le_bytes());
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fireside_formats::Gguf;

    fn tiny() -> Synthetic {
        Synthetic::named("tiny").unwrap()
    }

    #[test]
    fn a_file_has_the_tensors_of_its_shape_in_its_type() {
        let mut model = tiny();
        model.set("type", "q4_0").unwrap();
        model.tied = false;
        let mut out = Vec::new();
        model.write_to(&mut out).unwrap();
        let gguf = Gguf::parse(&out, out.len() as u64).unwrap();
        assert_eq!(gguf.tensors().len(), 1 + model.layers * 9 + 2);
        let of = |name: &str| gguf.tensors().iter().find(|t| t.name == name).unwrap();
        assert_eq!(of("blk.1.attn_k.weight").shape, [32, 64]);
        assert_eq!(of("blk.1.attn_k.weight").dtype, DType::Q4_0);
        assert_eq!(of("output.weight").dtype, DType::Q8_0);
    }

    #[test]
    fn weights_have_the_deviation_that_keeps_sizes() {
        for dtype in [DType::Q4_0, DType::Q4_1, DType::Q8_0, DType::F16] {
            let tensor = Tensor {
                name: String::new(),
                shape: vec![64, 256],
                dtype,
            };
            let bytes = tensor.bytes(&mut Random(7));
            let mut values = vec![0.0; 64 * 256];
            fireside_formats::dequantize(dtype, &bytes, &mut values).unwrap();
            let square: f32 = values.iter().map(|v| v * v).sum();
            let deviation = (square / values.len() as f32).sqrt();
            assert!((deviation * 16.0 - 1.0).abs() < 0.1, "{dtype}: {deviation}");
        }
    }

    #[test]
    fn sizes_that_do_not_fit_are_told_by_their_option() {
        for (name, value, says) in [
            ("hidden", "100", "--hidden is 100"),
            ("heads", "3", "--heads is 3"),
            ("kv-heads", "3", "--kv-heads is 3"),
            ("vocab", "10", "--vocab is 10"),
        ] {
            let mut model = tiny();
            model.set(name, value).unwrap();
            let error = model.check().unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        assert!(tiny().set("layers", "0").is_err());
        assert!(tiny().set("type", "q9").is_err());
    }
}
