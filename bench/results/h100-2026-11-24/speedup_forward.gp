set terminal svg noenhanced dynamic size 450,552 name 'speedup_forward' font 'sans-serif,15'
set output 'speedup_forward.svg'
set border 3 lw 0.75
set tics nomirror scale 0.4
set errorbars small
set grid ytics lt 1 lw 0.5 lc rgb '#d9dce0'
set key below left Left reverse maxcols 1 samplen 2.5 height 0.6 font ',13'
set tmargin 1.8
set rmargin 2.5
set xtics offset 0,0.4
set logscale x
set xrange [0.359375:0.0135869565]
set xtics ('0 %%' 1, '20 %%' 0.8, '50 %%' 0.5, '70 %%' 0.3, '80 %%' 0.2, '90 %%' 0.1, '95 %%' 0.05, '98 %%' 0.02, '99 %%' 0.01, '99.5 %%' 0.005, '99.8 %%' 0.002, '99.9 %%' 0.001, '99.99 %%' 0.0001, '99.999 %%' 1e-05)
set logscale y
set yrange [0.833333333:476.00512]
set ytics ('1' 1, '10' 10, '100' 100)
set xlabel 'sparsity: share of pairs that is left out' offset 0,0.9
set label 'times faster than dense attention' at graph 0, graph 1.07 left
plot 'speedup_forward.dat' index 0 with yerrorlines lc rgb '#0072b2' lw 2 pt 7 ps 0.8 title '8K tokens, batch 1, bf16, sm90', \
  'speedup_forward.dat' index 1 with yerrorlines lc rgb '#d55e00' lw 2 pt 5 ps 0.8 title '2K tokens, batch 4, bf16, sm90', \
  'speedup_forward.dat' index 2 with yerrorlines lc rgb '#009e73' lw 2 pt 9 ps 0.8 title '4K tokens, batch 2, bf16, sm90', \
  'speedup_forward.dat' index 3 with yerrorlines lc rgb '#b0568f' lw 2 pt 13 ps 0.8 title '16K tokens, batch 1, bf16, sm90', \
  'speedup_forward.dat' index 4 with yerrorlines lc rgb '#a87400' lw 2 pt 11 ps 0.8 title '32K tokens, batch 1, bf16, sm90', \
  'speedup_forward.dat' index 5 with yerrorlines lc rgb '#3a93c2' lw 2 pt 15 ps 0.8 title '64K tokens, batch 1, bf16, sm90', \
  'speedup_forward.dat' index 6 with yerrorlines lc rgb '#0072b2' lw 2 pt 7 ps 0.8 title '2K tokens, batch 4, f32, simt', \
  'speedup_forward.dat' index 7 with yerrorlines lc rgb '#d55e00' lw 2 pt 5 ps 0.8 title '4K tokens, batch 2, f32, simt', \
  'speedup_forward.dat' index 8 with yerrorlines lc rgb '#009e73' lw 2 pt 9 ps 0.8 title '8K tokens, batch 1, f32, simt', \
  'speedup_forward.dat' index 9 with yerrorlines lc rgb '#b0568f' lw 2 pt 13 ps 0.8 title '16K tokens, batch 1, f32, simt', \
  'speedup_forward.dat' index 10 using 1:2 with lines lc rgb 'black' lw 1.5 dt 3 title '1 / density: as many times fewer pairs'
