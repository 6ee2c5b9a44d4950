set terminal svg noenhanced dynamic size 450,486 name 'bytes' font 'sans-serif,15'
set output 'bytes.svg'
set border 3 lw 0.75
set tics nomirror scale 0.4
set errorbars small
set grid ytics lt 1 lw 0.5 lc rgb '#d9dce0'
set key below left Left reverse maxcols 1 samplen 2.5 height 0.6 font ',13'
set tmargin 1.8
set rmargin 2.5
set xtics offset 0,0.4
set logscale x
set xrange [1.81818182:70.4]
set xtics ('2' 2, '4' 4, '8' 8, '16' 16, '32' 32, '64' 64)
set logscale y
set yrange [6356992:1.30910603e+13]
set ytics ('16 MiB' 16777216, '128 MiB' 134217728, '1 GiB' 1.07374182e+09, '8 GiB' 8.58993459e+09, '64 GiB' 6.87194767e+10, '512 GiB' 5.49755814e+11, '4 TiB' 4.39804651e+12)
set xlabel 'ranks' offset 0,0.9
set label 'in one run, all passes and ranks together' at graph 0, graph 1.07 left
plot 'bytes.dat' index 0 with yerrorlines lc rgb '#0072b2' lw 2 pt 7 ps 0.8 title 'moved: LongNet, 1M tokens', \
  'bytes.dat' index 1 with yerrorlines lc rgb '#d55e00' lw 2 pt 5 ps 0.8 title 'moved: strided(1:2,rows=26), 1M tokens', \
  'bytes.dat' index 2 with yerrorlines lc rgb '#009e73' lw 2 pt 9 ps 0.8 title 'moved: LongNet, 256K tokens a rank', \
  'bytes.dat' index 3 with yerrorlines lc rgb '#b0568f' lw 2 pt 13 ps 0.8 title 'moved: strided(1:2,rows=26), 256K tokens a rank', \
  'bytes.dat' index 4 using 1:2 with linespoints lc rgb 'black' lw 1.5 dt (8,4) pt 4 ps 0.8 title 'all-gather: 1M tokens', \
  'bytes.dat' index 5 using 1:2 with linespoints lc rgb 'black' lw 1.5 dt (8,4) pt 4 ps 0.8 title 'all-gather: 256K tokens a rank', \
  'bytes.dat' index 6 using 1:2 with lines lc rgb 'black' lw 1.5 dt 3 title 'ring attention: 1M tokens', \
  'bytes.dat' index 7 using 1:2 with lines lc rgb 'black' lw 1.5 dt 3 title 'ring attention: 256K tokens a rank'
