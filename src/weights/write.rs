use anyhow::{Context, Result, bail, ensure};
use safetensors::Dtype;
use serde_json::{Map, json};
use std::{cmp::Reverse, io::Write};
use tch::{Device, Kind, Tensor};

/// Writes tensors as a safetensors file, one after the other, so that no second copy of them all takes memory. They may be
/// views, and on a GPU. The same tensors give the same bytes.
///
/// # Errors
/// If two have one name, a kind of number is none that a checkpoint has, or `out` takes no more.
pub fn write_safetensors(out: &mut dyn Write, tensors: &[(String, Tensor)]) -> Result<()> {
    let mut tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (name, tensor)).collect();
    // Each then begins at a multiple of its numbers' size.
    tensors.sort_by_key(|(name, tensor)| (Reverse(tensor.kind().elt_size_in_bytes()), *name));
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({"format": "pt"})); // transformers wants to know
    let mut start = 0;
    for (name, tensor) in &tensors {
        let end = start + tensor.numel() * tensor.kind().elt_size_in_bytes();
        let (dtype, shape) = (dtype(tensor.kind())?, tensor.size());
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [start, end]});
        let is_new = header.insert(name.to_string(), entry).is_none();
        ensure!(is_new, "there are two tensors {name}");
        start = end;
    }
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    for (name, tensor) in tensors {
        let tensor = tensor.detach().to(Device::Cpu).contiguous();
        let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
        tensor.copy_data_u8(&mut bytes, tensor.numel());
        out.write_all(&bytes).with_context(|| format!("the tensor {name}"))?;
    }
    Ok(())
}

/// What a safetensors file calls the numbers of a tensor.
pub fn dtype(kind: Kind) -> Result<Dtype> {
    Ok(match kind {
        Kind::Float => Dtype::F32,
        Kind::BFloat16 => Dtype::BF16,
        Kind::Uint8 => Dtype::U8,
        Kind::Int64 => Dtype::I64,
        other => bail!("a tensor of {other:?} cannot be saved"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::SafeTensors;

    #[test]
    fn the_library_reads_what_is_written() {
        let options = |kind| (kind, Device::Cpu);
        let tensors = [
            ("bytes".to_string(), Tensor::from_slice(&[1u8, 2, 3])),
            ("turned".to_string(), Tensor::arange(6, options(Kind::Float)).view([2, 3]).tr()),
            ("nothing".to_string(), Tensor::zeros([0, 4], options(Kind::Int64))),
        ];
        let mut file = Vec::new();
        write_safetensors(&mut file, &tensors).unwrap();
        let read = SafeTensors::deserialize(&file).unwrap();
        assert_eq!(read.tensor("bytes").unwrap().data(), [1, 2, 3]);
        let turned = read.tensor("turned").unwrap();
        let numbers: Vec<u8> =
            [0f32, 3.0, 1.0, 4.0, 2.0, 5.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!((turned.shape(), turned.data()), (&[3, 2][..], &numbers[..]));
        assert_eq!(read.tensor("nothing").unwrap().shape(), [0, 4]);
        let twice = [tensors[0].0.clone(), tensors[0].0.clone()];
        let twice = twice.map(|name| (name, Tensor::from_slice(&[1u8])));
        assert!(write_safetensors(&mut Vec::new(), &twice).is_err());
    }
}
