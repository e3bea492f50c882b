//! The sizes of one convolution, and how its images are laid out so that no im2col is needed.
//!
//! With stride 1, the input value under kernel tap `(i, j)` of output `(y, x)` lies at
//! `y * width + x` plus a constant, `i * width + j`. So if the outputs are numbered with the *input's*
//! row width, each tap reads one contiguous run of the image, shifted by a constant. The price is a
//! few columns at the end of each row that belong to no output ("gaps").
//!
//! A stride `s` is reduced to that by splitting the padded image into `s * s` phases: phase `(p, q)`
//! holds the pixels `(s * y + p, s * x + q)`, and tap `(i, j)` reads phase `(i % s, j % s)` shifted by
//! `(i / s, j / s)`. All phases are cut to one grid, as large as the taps reach.

/// Sizes of one convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) batch: usize,
    /// Input channels.
    pub(crate) inputs: usize,
    /// Output channels.
    pub(crate) outputs: usize,
    /// Height and width of the input, without padding.
    pub(crate) input: [usize; 2],
    /// Height and width of the output.
    pub(crate) output: [usize; 2],
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) padding: [usize; 2],
    /// Height and width of each phase.
    pub(crate) grid: [usize; 2],
}

impl Geometry {
    /// # Shapes
    /// - `input`: `[batch, inputs, height, width]`
    /// - `weight`: `[outputs, inputs, kernel height, kernel width]`
    ///
    /// # Panics
    /// If the channels disagree, a size other than the batch is zero, or the kernel is larger than the
    /// padded image.
    pub(crate) fn new(input: [usize; 4], weight: [usize; 4], stride: [usize; 2], padding: [usize; 2]) -> Self {
        let [batch, inputs, height, width] = input;
        let [outputs, weight_inputs, kernel_height, kernel_width] = weight;
        assert_eq!(inputs, weight_inputs, "a convolution of {weight_inputs} channels got {inputs}");
        assert!(inputs * outputs * height * width > 0, "an empty image or no channels");
        let kernel = [kernel_height, kernel_width];
        let input = [height, width];
        let output = [0, 1].map(|axis| {
            let (kernel, stride) = (kernel[axis], stride[axis]);
            let padded = input[axis] + 2 * padding[axis];
            assert!(kernel > 0 && stride > 0, "kernel size and stride must be at least 1");
            assert!(kernel <= padded, "a kernel of {kernel} on an image of {padded} with padding");
            (padded - kernel) / stride + 1
        });
        let grid = [0, 1].map(|axis| output[axis] + (kernel[axis] - 1) / stride[axis]);
        Self { batch, inputs, outputs, input, output, kernel, stride, padding, grid }
    }

    /// Values in one input image.
    pub(crate) fn image(&self) -> usize {
        self.inputs * self.input[0] * self.input[1]
    }

    /// Values in the output of one image.
    pub(crate) fn map(&self) -> usize {
        self.outputs * self.output[0] * self.output[1]
    }

    /// Values in the weights of one output channel: the terms of one output's sum.
    pub(crate) fn depth(&self) -> usize {
        self.inputs * self.kernel[0] * self.kernel[1]
    }

    /// Values in one phase of one channel.
    pub(crate) fn plane(&self) -> usize {
        self.grid[0] * self.grid[1]
    }

    /// Length of the run that covers all outputs of one channel, gaps included.
    pub(crate) fn columns(&self) -> usize {
        (self.output[0] - 1) * self.grid[1] + self.output[1]
    }

    /// The largest shift of a tap inside its phase.
    pub(crate) fn reach(&self) -> usize {
        self.shift(self.kernel[0] - 1, self.kernel[1] - 1)
    }

    /// How far tap `(row, column)` of the kernel is shifted inside its phase.
    pub(crate) fn shift(&self, row: usize, column: usize) -> usize {
        row / self.stride[0] * self.grid[1] + column / self.stride[1]
    }

    /// Number of phases that some tap reads, vertically and horizontally.
    pub(crate) fn phases(&self) -> [usize; 2] {
        [0, 1].map(|axis| self.stride[axis].min(self.kernel[axis]))
    }

    /// The phases that some tap reads, in the order in which they are stored.
    pub(crate) fn each_phase(&self) -> impl Iterator<Item = [usize; 2]> + use<> {
        let [rows, columns] = self.phases();
        (0..rows).flat_map(move |row| (0..columns).map(move |column| [row, column]))
    }

    /// Where the run of each term of the sum starts in a spread image, in the order of the weights.
    pub(crate) fn taps(&self) -> Vec<usize> {
        let phases = self.phases();
        let mut taps = Vec::with_capacity(self.depth());
        for channel in 0..self.inputs {
            for row in 0..self.kernel[0] {
                for column in 0..self.kernel[1] {
                    let phase = row % self.stride[0] * phases[1] + column % self.stride[1];
                    taps.push((phase * self.inputs + channel) * self.plane() + self.shift(row, column));
                }
            }
        }
        taps
    }

    /// The part of a phase's axis that lies inside the image: `(first, count)` in the phase, and the
    /// place of `first` in the image. Steps in the image are as long as the stride.
    pub(crate) fn inside(&self, axis: usize, phase: usize) -> (usize, usize, usize) {
        let (stride, padding, length) = (self.stride[axis], self.padding[axis], self.input[axis]);
        // Position p of the phase is pixel p * stride + phase - padding.
        let first = padding.saturating_sub(phase).div_ceil(stride).min(self.grid[axis]);
        let start = (first * stride + phase).saturating_sub(padding);
        let count = length.saturating_sub(start).div_ceil(stride).min(self.grid[axis] - first);
        (first, count, start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_a_strided_padded_convolution() {
        let geometry = Geometry::new([2, 3, 26, 25], [16, 3, 3, 3], [2, 2], [1, 0]);
        assert_eq!(geometry.output, [13, 12]);
        assert_eq!(geometry.grid, [14, 13]);
        assert_eq!(geometry.depth(), 27);
        // Padded row 0 lies outside; row 2 of the phase's grid is padded row 4, image row 3.
        assert_eq!(geometry.inside(0, 0), (1, 13, 1));
        assert_eq!(geometry.inside(0, 1), (0, 13, 0));
        assert_eq!(geometry.inside(1, 0), (0, 13, 0));
        assert_eq!(geometry.inside(1, 1), (0, 12, 1));
    }

    #[test]
    fn a_phase_wholly_in_the_padding_has_nothing_inside() {
        let geometry = Geometry::new([1, 1, 1, 1], [1, 1, 1, 1], [1, 1], [3, 3]);
        assert_eq!(geometry.output, [7, 7]);
        assert_eq!(geometry.inside(0, 0), (3, 1, 0));
        let wide = Geometry::new([1, 1, 1, 1], [1, 1, 3, 3], [3, 3], [3, 3]);
        assert_eq!(wide.output, [2, 2]);
        assert_eq!(wide.inside(0, 0), (1, 1, 0));
        assert_eq!(wide.inside(0, 1).1, 0);
    }

    #[test]
    #[should_panic(expected = "a kernel of 5")]
    fn a_kernel_larger_than_the_image_is_refused() {
        Geometry::new([1, 1, 4, 4], [1, 1, 5, 5], [1, 1], [0, 0]);
    }
}
