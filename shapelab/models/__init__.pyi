from . import acnn as acnn, joint_space as joint_space, native as native, sslln as sslln, two_stage as two_stage
