//! The WGSL compute shaders of Fireside, embedded, and the preprocessor that makes their variants.
//!
//! A kernel is one file under `wgsl/`; its header states formula, memory layout, bindings,
//! workgroup and limits. [`Variant`] picks flags and constants, [`Variant::source`] gives the
//! final text:
//!
//! ```
//! use fireside_shaders::{Constant, Flag, Kernel, Variant};
//!
//! let shader = Variant::new(Kernel::RmsNorm).constant(Constant::Lanes, 64).flag(Flag::Residual);
//! assert!(shader.source().unwrap().contains("const LANES: u32 = 64u;"));
//! ```

pub mod catalogue;
mod preprocess;

pub use preprocess::{Error, preprocess};

macro_rules! kernels {
    ($($(#[$doc:meta])* $name:ident => $file:literal,)*) => {
        /// A kernel that can be launched: one WGSL file with an entry point `main`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kernel {
            $($(#[$doc])* $name,)*
        }

        impl Kernel {
            /// Every kernel, for tests that walk them all.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The file under `wgsl/`, without its ending.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $file,)* }
            }

            fn template(self) -> &'static str {
                match self {
                    $(Self::$name => include_str!(concat!("../wgsl/", $file, ".wgsl")),)*
                }
            }
        }
    };
}

kernels! {
    /// Embedding gather out of any weight layout.
    Embed => "embed",
    /// Root-mean-square norm or layer norm of chosen rows.
    RmsNorm => "rms_norm",
    /// Matrix product, some rows a lane: software adapters.
    LinearLane => "linear_lane",
    /// Matrix times a few columns, K split across a workgroup: GPUs.
    LinearSplit => "linear_split",
    /// Tiled matrix product: GPUs, many tokens.
    LinearTile => "linear_tile",
    /// Rotary embedding and the write to the KV cache.
    RopeKv => "rope_kv",
    /// Grouped-query attention over block tables.
    Attention => "attention",
    /// The same for software adapters with subgroups.
    AttentionLane => "attention_lane",
    /// The router of a layer of experts.
    Route => "route",
    /// Gated activation of two halves.
    Glu => "glu",
    /// Penalties and biases on logits.
    AdjustLogits => "adjust_logits",
    /// Selection: partial results per group of logits.
    SelectGroups => "select_groups",
    /// Selection: best token and log-sum-exp of a row.
    SelectBest => "select_best",
    /// Selection: groups that hold the top k.
    SelectTopGroups => "select_top_groups",
    /// Selection: the top k candidates.
    SelectTop => "select_top",
}

/// The files that kernels include by name.
fn include(name: &str) -> Option<&'static str> {
    Some(match name {
        "activation.wgsl" => include_str!("../wgsl/activation.wgsl"),
        "attention_queries.wgsl" => include_str!("../wgsl/attention_queries.wgsl"),
        "attention_params.wgsl" => include_str!("../wgsl/attention_params.wgsl"),
        "cache.wgsl" => include_str!("../wgsl/cache.wgsl"),
        "common.wgsl" => include_str!("../wgsl/common.wgsl"),
        "experts.wgsl" => include_str!("../wgsl/experts.wgsl"),
        "linear_params.wgsl" => include_str!("../wgsl/linear_params.wgsl"),
        "select.wgsl" => include_str!("../wgsl/select.wgsl"),
        "weights.wgsl" => include_str!("../wgsl/weights.wgsl"),
        _ => return None,
    })
}

macro_rules! names {
    ($(#[$doc:meta])* $type:ident { $($(#[$item:meta])* $name:ident => $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $type {
            $($(#[$item])* $name,)*
        }

        impl $type {
            /// Every one, in order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name that the shader text uses.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

names! {
    /// A switch that `#if` in a shader asks for.
    Flag {
        /// 4-bit planes.
        Q4 => "Q4",
        /// 8-bit planes with one scale per 32.
        Q8 => "Q8",
        /// 8-bit planes with scale and minimum per 16.
        Q8G => "Q8G",
        /// Half-precision planes.
        F16W => "F16W",
        /// bfloat16 planes.
        BF16W => "BF16W",
        /// Single-precision planes.
        F32W => "F32W",
        /// Scale and minimum are a pair of halves instead of floats.
        ScaleHalf => "SCALE_HALF",
        /// Either 8-bit layout.
        EightBit => "EIGHT_BIT",
        /// Any layout with scales.
        Quantized => "QUANTIZED",
        /// A layout with minima.
        HasMin => "HAS_MIN",
        /// A layout without scales.
        FloatWeights => "FLOAT_WEIGHTS",
        /// The product normalises its input.
        Norm => "NORM",
        /// Rows come in gate and up pairs.
        Glu => "GLU",
        /// The product adds a bias.
        Bias => "BIAS",
        /// The product adds a residual.
        Residual => "RESIDUAL",
        /// Query and key heads are normed.
        HeadNorm => "HEAD_NORM",
        /// With [`Flag::HeadNorm`]: all query heads at once, and all key heads.
        WholeNorm => "WHOLE_NORM",
        /// The embedding is added to what is there.
        Add => "ADD",
        /// The norm takes the mean away and adds a bias.
        Centered => "CENTERED",
        /// The product is activated.
        Activate => "ACTIVATE",
        /// The product stays between a bound and its negative.
        SoftCap => "SOFT_CAP",
        /// Waves of a workgroup share the KV cache's blocks out among them.
        Split => "SPLIT",
        /// The KV cache stores halves.
        KvF16 => "KV_F16",
        /// The KV cache stores signed bytes and their scales.
        KvQ8 => "KV_Q8",
        /// A lane takes rows in groups of four neighbours.
        RowQuads => "ROW_QUADS",
        /// Eight lanes of a subgroup share their loads.
        Subgroups => "SUBGROUPS",
        /// Rows are those of chosen experts.
        Experts => "EXPERTS",
    }
}

names! {
    /// A `u32` constant that a shader is built with.
    Constant {
        /// Lanes of a workgroup that differ in their row, position or element.
        Lanes => "LANES",
        /// Rows a lane owns.
        Rows => "ROWS",
        /// Tokens a lane owns.
        Cols => "COLS",
        /// Vectors of four weights in a chunk.
        Quads => "NV",
        /// Chunks in a block of 32 columns, or quads of a head that a lane owns.
        Parts => "PARTS",
        /// Groups of four rows a lane owns.
        RowGroups => "ROW_GROUPS",
        /// Groups of four rows a lane stores.
        RowGroupsOut => "ROW_GROUPS_OUT",
        /// Rows a lane stores: half its rows where they are gate and up pairs.
        RowsOut => "ROWS_OUT",
        /// Parts that K, or the KV cache's blocks, are split into across a workgroup.
        Splits => "SPLITS",
        /// Invocations of a workgroup, where it differs from the lanes.
        Workgroup => "WORKGROUP",
        /// Head dimension over four.
        HeadQuads => "HEAD_QUADS",
        /// Positions of a KV cache block.
        Block => "BLOCK",
        /// Positions of a block that a lane owns.
        Positions => "POSITIONS",
        /// Query heads that share a kv head.
        Group => "GROUP",
        /// Tokens of an attention tile.
        Tokens => "TOKENS",
        /// Logits of a selection group.
        Each => "EACH",
    }
}

/// One variant of a kernel: the flags that are set and the constants it is built with.
///
/// Small and `Copy`, and equal exactly when the text is equal, so it keys pipeline caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Variant {
    kernel: Kernel,
    flags: u32,
    constants: [u32; Constant::ALL.len()],
}

impl Variant {
    /// A variant without flags or constants.
    pub const fn new(kernel: Kernel) -> Self {
        Self {
            kernel,
            flags: 0,
            constants: [0; Constant::ALL.len()],
        }
    }

    /// Sets a flag.
    #[must_use]
    pub const fn flag(mut self, flag: Flag) -> Self {
        self.flags |= 1 << flag as u8;
        self
    }

    /// Sets a flag when `on` holds.
    #[must_use]
    pub const fn flag_if(self, flag: Flag, on: bool) -> Self {
        if on { self.flag(flag) } else { self }
    }

    /// Defines a constant; zero leaves it undefined.
    #[must_use]
    pub const fn constant(mut self, name: Constant, value: u32) -> Self {
        self.constants[name as usize] = value;
        self
    }

    /// The kernel this is a variant of.
    pub const fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Whether a flag is set.
    pub const fn has(&self, flag: Flag) -> bool {
        self.flags >> flag as u8 & 1 == 1
    }

    /// The value of a constant, zero where it is undefined.
    pub const fn get(&self, name: Constant) -> u32 {
        self.constants[name as usize]
    }

    /// Invocations of one workgroup.
    pub const fn workgroup(&self) -> u32 {
        match self.kernel {
            Kernel::LinearSplit | Kernel::Attention => self.get(Constant::Workgroup),
            Kernel::LinearTile => 128,
            _ => self.get(Constant::Lanes),
        }
    }

    /// The final WGSL text.
    ///
    /// # Errors
    ///
    /// An unbalanced `#if`, an unknown `#include` or directive, with file and line.
    pub fn source(&self) -> Result<String, Error> {
        let mut text = String::new();
        for name in Constant::ALL {
            let value = self.get(*name);
            if value > 0 {
                text.push_str(&format!("const {}: u32 = {value}u;\n", name.name()));
            }
        }
        let asked = |name: &str| Flag::ALL.iter().any(|f| f.name() == name && self.has(*f));
        let constant = |name: &str| {
            let found = Constant::ALL.iter().find(|c| c.name() == name)?;
            Some(self.get(*found)).filter(|value| *value > 0)
        };
        let body = preprocess(
            self.kernel.name(),
            self.kernel.template(),
            &asked,
            &constant,
            &include,
        )?;
        text.push_str(&body);
        Ok(text)
    }
}
